//! Product exports of WooCommerce. A variable product has further rows for its variations, which
//! name their parent and hold the prices.

use super::source_fields::{ItemFields, SourceFields, parse_price, parse_yes_no, split_list};
use crate::ingest::validation::{missing_field_error, printable_excerpt};
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

/// The columns that a table needs.
pub(super) const REQUIRED_COLUMNS: [&[&str]; 2] = [&["id"], &["name"]];

/// Largest number of variable products in a file. The reader holds an entry for each of them.
const MAX_VARIABLE_PRODUCTS: usize = 500_000;

/// Converts rows to item changes.
#[derive(Debug, Default)]
pub(super) struct WoocommerceRows {
    /// The ids of variable products, by SKU.
    ids_by_sku: FxHashMap<String, String>,
    /// The lowest price so far of each variable product, by id.
    lowest_prices: FxHashMap<String, f64>,
}

impl WoocommerceRows {
    /// Converts a row. `None` if it is a variation that is not cheaper than the earlier ones.
    ///
    /// # Errors
    /// If a required value is absent or a value is invalid.
    pub(super) fn convert(&mut self, fields: &SourceFields) -> Result<Option<Map<String, Value>>, ValidationError> {
        let id = fields.text(&["id"]).ok_or_else(|| missing_field_error("ID"))?;
        let types = fields.text(&["type"]).unwrap_or("simple").to_ascii_lowercase();
        let is_type = |name: &str| types.split(',').any(|found| found.trim() == name);
        let price = fields.text(&["regular_price"]).map(|price| parse_price("Regular price", price)).transpose()?;
        let price = price.map(|(price, _)| price);
        if is_type("variation") {
            return self.convert_variation(fields, price);
        }
        if is_type("variable") {
            self.remember_variable_product(id, fields.text(&["sku"]), price)?;
        }
        let mut item = ItemFields::new(id);
        item.set_title(fields.text(&["name"]));
        item.set("price", price);
        item.set("brand", fields.text(&["brands"]).map(|brands| split_list(brands, ',').swap_remove(0)));
        item.set("image", fields.text(&["images"]).map(|images| split_list(images, ',').swap_remove(0)));
        item.set_attribute("sku", fields.text(&["sku"]));
        if let Some(price) = fields.text(&["sale_price"]) {
            item.set_attribute("sale_price", Some(parse_price("Sale price", price)?.0));
        }
        let paths = fields.text(&["categories"]).map_or_else(Vec::new, |paths| split_list(paths, ','));
        item.set_labels("categories", paths.iter().flat_map(|path| path.split('>')).map(|step| step.trim().to_owned()));
        item.set_labels("tags", fields.text(&["tags"]).map_or_else(Vec::new, |tags| split_list(tags, ',')));
        item.set("available", Some(is_available(fields)));
        Ok(Some(item.into_object()))
    }

    fn remember_variable_product(
        &mut self,
        id: &str,
        sku: Option<&str>,
        price: Option<f64>,
    ) -> Result<(), ValidationError> {
        if self.ids_by_sku.len().max(self.lowest_prices.len()) >= MAX_VARIABLE_PRODUCTS {
            let reason = format!("a file can have at most {MAX_VARIABLE_PRODUCTS} variable products; divide the file");
            return Err(ValidationError::new("Type", ValidationErrorCode::TooMany, reason));
        }
        if let Some(sku) = sku {
            self.ids_by_sku.insert(sku.to_owned(), id.to_owned());
        }
        self.lowest_prices.insert(id.to_owned(), price.unwrap_or(f64::INFINITY));
        Ok(())
    }

    /// A change of the parent's price, if this variation is the cheapest so far.
    fn convert_variation(
        &mut self,
        fields: &SourceFields,
        price: Option<f64>,
    ) -> Result<Option<Map<String, Value>>, ValidationError> {
        let parent = fields.text(&["parent"]).ok_or_else(|| missing_field_error("Parent"))?;
        let id = parent.strip_prefix("id:").or_else(|| self.ids_by_sku.get(parent).map(String::as_str));
        let lowest = id.and_then(|id| self.lowest_prices.get_mut(id));
        let (Some(id), Some(lowest)) = (id, lowest) else {
            let reason =
                format!("no row before this one has the parent `{}` of the variation", printable_excerpt(parent));
            return Err(ValidationError::new("Parent", ValidationErrorCode::Missing, reason));
        };
        let Some(price) = price.filter(|price| price < lowest) else { return Ok(None) };
        *lowest = price;
        let mut item = ItemFields::new(id);
        item.set("op", Some("patch"));
        item.set("price", Some(price));
        Ok(Some(item.into_object()))
    }
}

/// Whether a product is published, visible, and in stock or on backorder.
fn is_available(fields: &SourceFields) -> bool {
    let is_published = fields.text(&["published"]).is_none_or(|published| published == "1");
    let is_visible = fields.text(&["visibility_in_catalog"]).is_none_or(|visibility| visibility != "hidden");
    is_published && is_visible && fields.text(&["in_stock"]).and_then(parse_yes_no) != Some(false)
}
