//! Writes the events of a simulated shop with returning customers as CSV, for `sequor replay`:
//! `cargo run --release --example simulate_shop -- ITEMS CUSTOMERS EVENTS [CATALOG.csv] > shop.csv`.
//!
//! `CATALOG.csv` gets the items with their attributes, for `sequor replay --items`. An item that
//! arrives while the shop is open has the time of its arrival as `published`.

use sequor::domain::{Entry, ItemChange, ItemOperation};
use sequor::simulation::{ShopSettings, ShopSimulator};
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default| arguments.get(index).map_or(Ok(default), |text| text.parse::<usize>());
    let (items, customers, events) = (number(0, 10_000)?, number(1, 5_000)?, number(2, 300_000)?);
    let mut catalog = arguments.get(3).map(File::create).transpose()?.map(BufWriter::new);
    if let Some(catalog) = &mut catalog {
        writeln!(catalog, "item_id,categories,brand,price,published")?;
    }
    let opens_at = 1_700_000_000_000;
    let settings = ShopSettings { items, customers, opens_at, ..ShopSettings::default() };
    let mut out = BufWriter::new(std::io::stdout().lock());
    writeln!(out, "user,item,event,timestamp,session")?;
    let mut written = 0;
    for entry in ShopSimulator::new(settings)? {
        match entry {
            Entry::Event(_) if written >= events => break,
            Entry::Event(event) => {
                let item = event.item_id.unwrap_or_default();
                let session = event.session_id.unwrap_or_default();
                writeln!(out, "{},{item},{},{},{session}", event.user_id, event.kind.name(), event.timestamp)?;
                written += 1;
            }
            Entry::Item(change) => {
                let arrival = Some(change.timestamp).filter(|time| *time > opens_at);
                catalog.as_mut().map(|catalog| write_item(catalog, &change, arrival)).transpose()?;
            }
            _ => {}
        }
    }
    catalog.map(|mut catalog| catalog.flush()).transpose()?;
    Ok(out.flush()?)
}

fn write_item(catalog: &mut impl Write, change: &ItemChange, arrival: Option<i64>) -> std::io::Result<()> {
    let ItemOperation::Put(item) = &change.operation else { return Ok(()) };
    let (categories, brand) = (item.categories.join("|"), item.brand.as_deref().unwrap_or_default());
    let price = item.price.map(|price| price.to_string()).unwrap_or_default();
    let arrival = arrival.map(|time| time.to_string()).unwrap_or_default();
    writeln!(catalog, "{},{categories},{brand},{price},{arrival}", change.item_id)
}
