//! The behaviour that a benchmark repeats: a simulated shop, or a recording.

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

use crate::cli::file_flags::FileFlags;
use crate::cli::flags::{self, RuntimeFlags};
use crate::cli::recording::no_event_error;
use crate::domain::{Entry, Timestamp};
use crate::ingest::EventFileReader;
use crate::simulation::{ShopSettings, ShopSimulator};

/// Flags that select the behaviour.
#[derive(Debug, Args)]
#[command(mut_group("FileFlags", |flags| flags.requires("file")))]
pub(super) struct BenchWorkload {
    /// Size of the simulated shop: sets the items, the customers and the history.
    #[arg(long, value_enum, conflicts_with_all = ["items", "users", "file"])]
    catalog: Option<CatalogSize>,
    /// Send the events of this recording, again and again, instead of a simulated shop. Users and
    /// items are those of the file; events get the current time.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["items", "users", "seed"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    format: FileFlags,
    /// Customers of the simulated shop.
    #[arg(long, default_value_t = 2_000)]
    users: usize,
    /// Items of the simulated shop.
    #[arg(long, default_value_t = 2_000)]
    items: usize,
    /// Events to send and learn before the measurement, 1 to 2,000,000 [default: 10000, or by
    /// --catalog].
    #[arg(long, value_name = "EVENTS", value_parser = RangedU64ValueParser::<u64>::new().range(1..=2_000_000))]
    history: Option<u64>,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Size of a simulated shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CatalogSize {
    /// 10,000 items, 20,000 customers, 100,000 events before the measurement.
    #[value(name = "10k")]
    TenThousand,
    /// 42,000 items, 50,000 customers, 200,000 events before the measurement.
    #[value(name = "42k")]
    FortyTwoThousand,
    /// 1,000,000 items, 200,000 customers, 500,000 events before the measurement.
    #[value(name = "1m")]
    Million,
}

impl CatalogSize {
    /// The numbers of items, customers and events before the measurement.
    fn dimensions(self) -> (usize, usize, u64) {
        match self {
            Self::TenThousand => (10_000, 20_000, 100_000),
            Self::FortyTwoThousand => (42_000, 50_000, 200_000),
            Self::Million => (1_000_000, 200_000, 500_000),
        }
    }
}

impl BenchWorkload {
    /// The number of events to send before the measurement.
    pub(super) fn history(&self) -> u64 {
        self.history.unwrap_or_else(|| self.catalog.map_or(10_000, |size| size.dimensions().2))
    }

    /// A description for the report.
    pub(super) fn name(&self) -> String {
        match &self.file {
            Some(file) => file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => format!("a shop of {} items", self.shop_size().0),
        }
    }

    /// The numbers of items and customers of the simulated shop.
    fn shop_size(&self) -> (usize, usize) {
        self.catalog.map_or((self.items, self.users), |size| (size.dimensions().0, size.dimensions().1))
    }

    /// The endless stream of entries. Prints how many rows of a recording are left out as invalid.
    ///
    /// # Errors
    /// A setting of the shop is out of its range, or the recording cannot be read or holds no
    /// event.
    pub(super) fn entries(
        &self,
        runtime: &RuntimeFlags,
        now: Timestamp,
    ) -> anyhow::Result<Box<dyn Iterator<Item = Entry>>> {
        let Some(file) = &self.file else {
            let (items, customers) = self.shop_size();
            let shop = ShopSettings { seed: self.seed, opens_at: now, items, customers, ..ShopSettings::default() };
            return Ok(Box::new(ShopSimulator::new(shop)?));
        };
        let layers = runtime.settings_layers(&[])?;
        let rules = flags::server_validation_rules(layers.validated_settings()?)?;
        let reader = EventFileReader::open_with_mapping(file, self.format.event_mapping()?, &rules, i64::MAX / 2)?;
        let (mut events, mut rejected, mut first_error) = (Vec::new(), 0, None);
        for event in reader {
            match event? {
                Ok(event) => events.push(Entry::Event(event.value)),
                Err(error) => {
                    rejected += 1;
                    first_error.get_or_insert(error);
                }
            }
        }
        if let (false, Some(error)) = (events.is_empty(), &first_error) {
            eprintln!("{}: invalid rows, left out: {rejected}; the first: {error}", file.display());
        }
        if events.is_empty() {
            return Err(no_event_error(file, first_error));
        }
        Ok(Box::new(events.into_iter().cycle()))
    }
}
