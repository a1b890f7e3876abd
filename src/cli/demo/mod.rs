//! `sequor demo`: shows online learning on simulated or recorded traffic.

mod demo_driver;
mod demo_source;
mod demo_stats;
mod demo_view;
mod shop;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use console::Term;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::{Command, Stdio};

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
use shop::Storefront;

/// Arguments of `sequor demo`.
#[derive(Debug, Args)]
#[command(
    mut_group("FileFlags", |flags| flags.requires("file")),
    after_help = "Starts a daemon on free ports of this machine and sends it, over HTTP, the events of a simulated shop's visitors. One visitor in five gets recommendations and clicks \
    some of them. The daemon measures Recall@20 and MRR@20 itself: it ranks the items before it learns from each event. New items arrive all the time. From time to time, a few unpopular items \
    start to trend.\n\nThe shop is also a web page, at the printed address: visit it, and see its lists change with each click.\n\nExamples:\n  sequor demo\n  \
    sequor demo --open                                  opens the shop in the browser\n  sequor demo --for 60s --json > summary.json\n  \
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
    /// Address of the shop's pages; port 0 selects a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", conflicts_with = "file")]
    shop_listen: String,
    /// Open the shop in the browser.
    #[arg(long, conflicts_with = "file")]
    open: bool,
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

/// Opens a page in the browser. If there is none, the printed address remains.
fn open_in_browser(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        eprintln!("cannot open a browser: {program}: {error}; open {url}/ yourself");
    }
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
        let shop = self.file.is_none().then(|| Storefront::bind(&self.shop_listen)).transpose()?;
        // Pages of the shop may read the API.
        let origins = settings.server.cors_origins.iter().chain(shop.as_ref().map(|shop| &shop.url));
        let overrides = [
            ("server.listen", self.listen.clone()),
            ("server.admin_listen", self.admin_listen.clone()),
            ("server.cors_origins", serde_json::to_string(&origins.collect::<Vec<_>>())?),
        ];
        let mut child = DaemonProcess::start(&self.flags, &overrides)?;
        let view = DemoView::new(if self.json { Term::stderr() } else { Term::stdout() });
        let shop_url = shop.as_ref().map(|shop| shop.url.clone());
        view.print_addresses(&child.admin, &child.api, shop_url.as_deref())?;
        let summary = actix::System::new().block_on(async {
            let daemon = DaemonClient::new(
                &child.api,
                Some(&child.admin),
                DemoDriver::MAX_CONCURRENT_REQUESTS,
                &ClientAuth::default(),
            )?;
            let describer = shop.as_ref().map(Storefront::describer);
            if let Some(shop) = shop {
                shop::create_placements(&daemon).await?;
                actix::spawn(shop.into_server(&child.api)?);
                shop_url.iter().filter(|_| self.open).for_each(|url| open_in_browser(url));
            }
            let duration = self.duration.and_then(Period::get);
            DemoDriver::new(daemon, &mut source, view, Clock::system(), duration, describer).run().await
        });
        let summary = child.add_exit_context(summary)?;
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string(&summary)?)?;
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
