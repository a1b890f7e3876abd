//! `sequor demo`: shows online learning on simulated or recorded traffic.

mod demo_driver;
mod demo_source;
mod demo_stats;
mod demo_view;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use console::Term;
use std::path::PathBuf;

use super::client_auth::ClientAuth;
use super::daemon_client::DaemonClient;
use super::daemon_process::DaemonProcess;
use super::file_flags::FileFlags;
use super::flags::{self, RuntimeFlags};
use crate::clock::Clock;
use crate::ingest::EventFileReader;
use crate::settings::Period;
use crate::simulation::{ShopSettings, ShopSimulator};
use demo_driver::DemoDriver;
use demo_source::{DemoSource, RecordedEvents};
use demo_view::DemoView;

/// Arguments of `sequor demo`.
#[derive(Debug, Args)]
#[command(
    mut_group("FileFlags", |flags| flags.requires("file")),
    after_help = "Starts a daemon on free ports of this machine and sends it, over HTTP, the events of a simulated shop's visitors. One visitor in five gets recommendations and clicks \
    some of them. The daemon measures Recall@20 and MRR@20 itself: it ranks the items before it learns from each event. New items arrive all the time. From time to time, a few unpopular items \
    start to trend.\n\nExamples:\n  sequor demo\n  sequor demo --for 60s --json > summary.json\n  \
    sequor demo --file clicks.csv.gz --speed 500        replays a recording at 500 times its speed"
)]
pub(super) struct Demo {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Duration, such as 60s [default: until Ctrl-C].
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Period>,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 42, conflicts_with = "file")]
    seed: u64,
    /// Events per second, 1 to 100,000.
    #[arg(long, value_name = "EVENTS/S", default_value_t = 300, conflicts_with = "file", value_parser = RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    rate: u64,
    /// Items of the shop at the start, 40 to 100,000.
    #[arg(long, default_value_t = 2_000, conflicts_with = "file")]
    items: usize,
    /// Replay this recording instead of the simulation. The formats are those of `sequor replay`.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    format: FileFlags,
    /// Speed relative to the recording.
    #[arg(long, value_name = "TIMES", default_value = "100", requires = "file", value_parser = parse_speed)]
    speed: f64,
    /// Address of the public API; port 0 selects a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// Address of the admin endpoint; port 0 selects a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    admin_listen: String,
    /// Print the summary as JSON to standard output. The live view goes to standard error.
    #[arg(long)]
    json: bool,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|speed: &f64| speed.is_finite() && *speed > 0.0)
        .ok_or_else(|| "must be a number above 0".to_owned())
}

impl Demo {
    /// The first trend starts after this many seconds, if the demo runs long enough.
    const FIRST_TREND_SECONDS: f64 = 20.0;

    pub(super) fn run(self) -> anyhow::Result<()> {
        let settings = self.flags.settings_layers(&[])?.validated_settings()?.clone();
        let rules = flags::client_validation_rules(&settings);
        let mut source = match &self.file {
            Some(file) => {
                let mapping = self.format.event_mapping()?;
                let events = EventFileReader::open_with_mapping(file, mapping, &rules, i64::MAX / 2)?;
                DemoSource::File {
                    events: Box::new(RecordedEvents::new(events, settings.session.idle_gap.as_millis())),
                    speed: self.speed,
                }
            }
            None => DemoSource::Shop { shop: Box::new(self.new_shop()?), rate: self.rate as f64 },
        };
        let listen = [("server.listen", self.listen.clone()), ("server.admin_listen", self.admin_listen.clone())];
        let mut child = DaemonProcess::start(&self.flags, &listen)?;
        let view = DemoView::new(if self.json { Term::stderr() } else { Term::stdout() });
        view.print_addresses(&child.admin, &child.api)?;
        let summary = actix::System::new().block_on(async {
            let daemon = DaemonClient::new(
                &child.api,
                Some(&child.admin),
                DemoDriver::MAX_CONCURRENT_REQUESTS,
                &ClientAuth::default(),
            )?;
            let duration = self.duration.and_then(Period::get);
            DemoDriver::new(daemon, &mut source, view, Clock::system(), duration).run().await
        });
        let summary = child.add_exit_context(summary)?;
        if self.json {
            println!("{}", serde_json::to_string(&summary)?);
        }
        Ok(())
    }

    fn new_shop(&self) -> anyhow::Result<ShopSimulator> {
        let duration = self.duration.and_then(Period::get).map_or(f64::INFINITY, |duration| duration.as_secs_f64());
        let trend_interval = (self.rate as f64 * Self::FIRST_TREND_SECONDS.min(duration / 3.0)) as u64;
        let opens_at = Clock::system().now();
        Ok(ShopSimulator::new(ShopSettings {
            seed: self.seed,
            opens_at,
            items: self.items,
            trend_interval: trend_interval.max(100),
            ..ShopSettings::default()
        })?)
    }
}
