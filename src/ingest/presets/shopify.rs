//! Product exports of Shopify. A product has a row for each of its variants and further images; only
//! the first row holds the fields of the product.

use super::source_fields::{ItemFields, SourceFields, parse_price, parse_yes_no, split_list};
use crate::ingest::validation::missing_field_error;
use crate::ingest::validation_error::ValidationError;
use serde_json::{Map, Value};

/// The columns of which a table needs one each.
pub(super) const REQUIRED_COLUMNS: [&[&str]; 2] = [&["handle", "url_handle"], &["title"]];

/// The line of a product's last row, and its item change.
type JoinedProduct = (u64, Map<String, Value>);

/// A product whose rows are being read.
#[derive(Debug)]
struct ShopifyProduct {
    handle: String,
    item: ItemFields,
    /// The line of its last row.
    line: u64,
    /// Whether its first row is invalid, which holds the fields of the product.
    is_rejected: bool,
    is_published: bool,
    has_variants: bool,
    /// Whether a variant can be bought.
    is_sellable: bool,
}

/// Joins the rows of each product.
#[derive(Debug, Default)]
pub(super) struct ShopifyRows(Option<ShopifyProduct>);

impl ShopifyRows {
    /// Adds a row. Returns the product before it, if the row begins another product.
    ///
    /// # Errors
    /// If the row has no handle or an invalid price. A product whose first row is invalid is left out;
    /// otherwise, it is kept without the row.
    pub(super) fn push(
        &mut self,
        line: u64,
        fields: &SourceFields,
    ) -> (Option<JoinedProduct>, Result<(), ValidationError>) {
        let Some(handle) = fields.text(&["handle", "url_handle"]) else {
            return (None, Err(missing_field_error("Handle")));
        };
        let finished = self.0.take_if(|open| open.handle != handle).and_then(ShopifyProduct::finish);
        let (open, is_first) = match &mut self.0 {
            Some(open) => (open, false),
            None => (self.0.insert(ShopifyProduct::new(handle)), true),
        };
        let outcome = open.add_row(line, fields);
        open.is_rejected |= is_first && outcome.is_err();
        (finished, outcome)
    }

    /// The last product.
    pub(super) fn finish(&mut self) -> Option<JoinedProduct> {
        self.0.take().and_then(ShopifyProduct::finish)
    }
}

impl ShopifyProduct {
    fn new(handle: &str) -> Self {
        Self {
            handle: handle.to_owned(),
            item: ItemFields::new(handle),
            line: 0,
            is_rejected: false,
            is_published: true,
            has_variants: false,
            is_sellable: false,
        }
    }

    fn add_row(&mut self, line: u64, fields: &SourceFields) -> Result<(), ValidationError> {
        self.line = line;
        let price =
            fields.text(&["variant_price", "price"]).map(|price| parse_price("Variant Price", price)).transpose()?;
        let item = &mut self.item;
        item.set_title(fields.text(&["title"]));
        item.set("brand", fields.text(&["vendor"]));
        item.set("image", fields.text(&["image_src", "product_image_url"]));
        item.set_attribute("sku", fields.text(&["variant_sku", "sku"]));
        let path = fields.text(&["product_category"]).unwrap_or_default().split('>').map(|step| step.trim().to_owned());
        item.set_labels("categories", path.chain(fields.text(&["type", "product_type"]).map(str::to_owned)));
        item.set_labels("tags", fields.text(&["tags"]).map_or_else(Vec::new, |tags| split_list(tags, ',')));
        let published = fields.text(&["published", "published_on_online_store"]).and_then(parse_yes_no);
        let is_active = fields.text(&["status"]).is_none_or(|status| status.eq_ignore_ascii_case("active"));
        self.is_published &= published != Some(false) && is_active;
        if let Some((price, _)) = price {
            item.set_lowest_price(price);
            self.has_variants = true;
            self.is_sellable |= is_variant_sellable(fields);
        }
        Ok(())
    }

    /// The product; `None` if it is rejected.
    fn finish(mut self) -> Option<JoinedProduct> {
        if self.is_rejected {
            return None;
        }
        self.item.set("available", Some(self.is_published && (self.is_sellable || !self.has_variants)));
        Some((self.line, self.item.into_object()))
    }
}

/// Whether a variant is in stock, its stock is not tracked, or it is sold without stock.
fn is_variant_sellable(fields: &SourceFields) -> bool {
    let is_tracked = fields.text(&["variant_inventory_tracker", "inventory_tracker"]).is_some();
    let policy = fields.text(&["variant_inventory_policy", "continue_selling_when_out_of_stock"]);
    let quantity =
        fields.text(&["variant_inventory_qty", "inventory_quantity"]).and_then(|text| text.parse::<i64>().ok());
    !is_tracked
        || policy.is_some_and(|policy| policy.eq_ignore_ascii_case("continue"))
        || quantity.is_none_or(|quantity| quantity > 0)
}
