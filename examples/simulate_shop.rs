//! Writes the events of a simulated shop with returning customers as CSV, for `sequor replay`:
//! `cargo run --release --example simulate_shop -- ITEMS CUSTOMERS EVENTS [CATALOG] > shop.csv`.
//!
//! Prints the Recall@20 at the first events of customers' visits in the second half, for a list made
//! with knowledge of the shop's parameters and of the customers' preferences: what no recommender
//! can exceed.
//!
//! `CATALOG` gets the items with their attributes, for `sequor replay --items`. An item that arrives
//! while the shop is open has the time of its arrival as `published`. If the name ends in `.ndjson`,
//! the items also have a vector of 48 numbers: a part that all items share, a part of the category
//! and a random part.

use sequor::domain::{Entry, ItemChange, ItemOperation};
use sequor::simulation::{ShopSettings, ShopSimulator};
use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default| arguments.get(index).map_or(Ok(default), |text| text.parse::<usize>());
    let (items, customers, events) = (number(0, 10_000)?, number(1, 5_000)?, number(2, 300_000)?);
    let mut catalog = arguments.get(3).map(File::create).transpose()?.map(BufWriter::new);
    let is_json = arguments.get(3).is_some_and(|name| name.ends_with(".ndjson"));
    if let Some(catalog) = catalog.as_mut().filter(|_| !is_json) {
        writeln!(catalog, "item_id,categories,brand,price,published")?;
    }
    let opens_at = 1_700_000_000_000;
    let settings = ShopSettings { items, customers, opens_at, ..ShopSettings::default() };
    let mut out = BufWriter::new(std::io::stdout().lock());
    writeln!(out, "user,item,event,timestamp,session")?;
    let mut written = 0;
    let mut simulator = ShopSimulator::new(settings)?;
    let mut last_visits: HashMap<String, String> = HashMap::new();
    let (mut first_events, mut hits) = (0_usize, 0_usize);
    while let Some(entry) = simulator.next() {
        match entry {
            Entry::Event(_) if written >= events => break,
            Entry::Event(event) => {
                let item = event.item_id.unwrap_or_default();
                let session = event.session_id.unwrap_or_default();
                let last_visit = last_visits.insert(event.user_id.clone(), session.clone());
                if written >= events / 2 && last_visit.is_some_and(|last| last != session) {
                    first_events += 1;
                    let list = simulator.ideal_first_list(&event.user_id, 20);
                    hits += usize::from(list.iter().any(|(listed, _)| *listed == item));
                }
                writeln!(out, "{},{item},{},{},{session}", event.user_id, event.kind.name(), event.timestamp)?;
                written += 1;
            }
            Entry::Item(change) => {
                let arrival = Some(change.timestamp).filter(|time| *time > opens_at);
                catalog.as_mut().map(|catalog| write_item(catalog, &change, arrival, is_json)).transpose()?;
            }
            _ => {}
        }
    }
    catalog.map(|mut catalog| catalog.flush()).transpose()?;
    out.flush()?;
    let recall = hits as f64 / first_events.max(1) as f64;
    eprintln!("an ideal list of 20 items has a recall of {recall:.3} at {first_events} first events of visits");
    Ok(())
}

fn write_item(
    catalog: &mut impl Write,
    change: &ItemChange,
    arrival: Option<i64>,
    is_json: bool,
) -> std::io::Result<()> {
    let ItemOperation::Put(item) = &change.operation else { return Ok(()) };
    let id = &change.item_id;
    if is_json {
        let (categories, brand, price) = (&item.categories, &item.brand, item.price);
        let vectors = serde_json::json!({ "text": text_vector(id, categories) });
        let line = serde_json::json!({
            "item_id": id, "categories": categories, "brand": brand, "price": price, "published": arrival, "vectors": vectors,
        });
        return writeln!(catalog, "{line}");
    }
    let (categories, brand) = (item.categories.join("|"), item.brand.as_deref().unwrap_or_default());
    let price = item.price.map(|price| price.to_string()).unwrap_or_default();
    let arrival = arrival.map(|time| time.to_string()).unwrap_or_default();
    writeln!(catalog, "{id},{categories},{brand},{price},{arrival}")
}

fn text_vector(id: &str, categories: &[String]) -> Vec<f64> {
    // A number from -1 to 1 [FNV-1a and the finaliser of MurmurHash3].
    let random = |text: &str, position: u64| {
        let hash = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64 ^ position, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        (mixed >> 40) as f64 / f64::from(1_u32 << 23) - 1.0
    };
    let category = categories.first().map_or("", String::as_str);
    let value = |position| 2.0 + random(category, position) + random(id, position);
    (0..48).map(|position| (value(position) * 1000.0).round() / 1000.0).collect()
}
