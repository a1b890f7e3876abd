//! Product feeds for Google Merchant Center.

use super::source_fields::{ItemFields, SourceFields, parse_price};
use crate::ingest::validation::{missing_field_error, printable_excerpt};
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::{Map, Value};

/// Fields that become free attributes of the same name.
const ATTRIBUTE_FIELDS: [&str; 13] = [
    "condition",
    "color",
    "size",
    "gender",
    "age_group",
    "material",
    "pattern",
    "item_group_id",
    "custom_label_0",
    "custom_label_1",
    "custom_label_2",
    "custom_label_3",
    "custom_label_4",
];

/// The columns of which a table needs one.
pub(super) const REQUIRED_COLUMNS: [&[&str]; 1] = [&["id"]];

/// Converts one product.
///
/// # Errors
/// If the product has no id, or a value is invalid.
pub(super) fn convert(fields: &SourceFields) -> Result<Map<String, Value>, ValidationError> {
    let mut item = ItemFields::new(fields.text(&["id"]).ok_or_else(|| missing_field_error("id"))?);
    item.set_title(fields.text(&["title"]));
    item.set("url", fields.text(&["link"]));
    item.set("image", fields.text(&["image_link"]));
    item.set("brand", fields.text(&["brand"]));
    item.set("expires", fields.text(&["expiration_date"]));
    if let Some(price) = fields.text(&["price"]) {
        let (price, currency) = parse_price("price", price)?;
        item.set_lowest_price(price);
        item.set_attribute("currency", currency);
    }
    if let Some(price) = fields.text(&["sale_price"]) {
        item.set_attribute("sale_price", Some(parse_price("sale_price", price)?.0));
    }
    item.set("available", fields.text(&["availability"]).map(parse_availability).transpose()?);
    item.set_labels("categories", categories(fields));
    for name in ATTRIBUTE_FIELDS {
        item.set_attribute(name, fields.text(&[name]));
    }
    Ok(item.into_object())
}

/// The steps of the site's own category paths; without these, those of Google's category path.
fn categories(fields: &SourceFields) -> Vec<String> {
    let is_number = |path: &str| path.bytes().all(|byte| byte.is_ascii_digit());
    let own = fields.all("product_type");
    let paths = if own.is_empty() { fields.all("google_product_category") } else { own };
    let steps = paths.iter().filter(|path| !is_number(path)).flat_map(|path| path.split(['>', ',']));
    steps.map(|step| step.trim().to_owned()).collect()
}

fn parse_availability(text: &str) -> Result<bool, ValidationError> {
    match text.to_ascii_lowercase().replace([' ', '-'], "_").as_str() {
        "in_stock" | "preorder" | "backorder" | "available_for_order" | "limited_availability" => Ok(true),
        "out_of_stock" => Ok(false),
        _ => {
            let reason = format!(
                "`availability` must be in_stock, out_of_stock, preorder or backorder, not `{}`",
                printable_excerpt(text)
            );
            Err(ValidationError::new("availability", ValidationErrorCode::OutOfRange, reason))
        }
    }
}
