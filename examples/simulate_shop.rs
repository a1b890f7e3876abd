//! Writes the events of a simulated shop with returning customers as CSV, for `sequor replay`:
//! `cargo run --release --example simulate_shop -- ITEMS CUSTOMERS EVENTS > shop.csv`.

use sequor::domain::Entry;
use sequor::simulation::{ShopSettings, ShopSimulator};
use std::io::{BufWriter, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (items, customers, events) = (next(10_000)?, next(5_000)?, next(300_000)?);
    let settings = ShopSettings { items, customers, opens_at: 1_700_000_000_000, ..ShopSettings::default() };
    let mut out = BufWriter::new(std::io::stdout().lock());
    writeln!(out, "user,item,event,timestamp,session")?;
    let entries = ShopSimulator::new(settings)?.filter_map(|entry| match entry {
        Entry::Event(event) => Some(event),
        _ => None,
    });
    for event in entries.take(events) {
        let item = event.item_id.unwrap_or_default();
        let session = event.session_id.unwrap_or_default();
        writeln!(out, "{},{item},{},{},{session}", event.user_id, event.kind.name(), event.timestamp)?;
    }
    Ok(out.flush()?)
}
