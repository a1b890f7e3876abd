//! The pages of the demo's shop, from templates.

use super::product::{Product, ProductShelf};

/// Products on a page of a category.
const PRODUCTS_PER_PAGE: usize = 24;

/// The value of a placeholder.
enum Value<'v> {
    /// A text, which is escaped.
    Text(&'v str),
    /// Markup of another template.
    Markup(&'v str),
}

/// Replaces each placeholder `{{name}}` of a template.
fn fill(template: &str, values: &[(&str, Value<'_>)]) -> String {
    let mut page = template.to_owned();
    for (name, value) in values {
        let placeholder = format!("{{{{{name}}}}}");
        page = match value {
            Value::Text(text) => page.replace(&placeholder, &escape(text)),
            Value::Markup(markup) => page.replace(&placeholder, markup),
        };
    }
    page
}

/// Escapes a text for HTML, also for attributes in double quotes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A name with a capital letter.
fn capitalise(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Renders the pages. The API is at `api`.
#[derive(Debug, Clone)]
pub(super) struct ShopPages {
    pub(super) api: String,
    pub(super) shelf: ProductShelf,
}

impl ShopPages {
    /// A page with a title. `body` has the attributes of its body.
    fn layout(&self, title: &str, body: &str, main: &str) -> String {
        let values = [
            ("main", Value::Markup(main)),
            ("body", Value::Markup(body)),
            ("title", Value::Text(title)),
            ("api", Value::Text(&self.api)),
        ];
        fill(include_str!("layout.html"), &values)
    }

    /// The home page.
    pub(super) fn home(&self) -> String {
        let tile = |(name, count): (String, usize)| {
            let (label, count) = (capitalise(&name), count.to_string());
            let values = [("name", Value::Text(&name)), ("label", Value::Text(&label)), ("count", Value::Text(&count))];
            fill(include_str!("category_tile.html"), &values)
        };
        let tiles: String = self.shelf.categories().into_iter().map(tile).collect();
        self.layout("Home", "", &fill(include_str!("home.html"), &[("categories", Value::Markup(&tiles))]))
    }

    /// A page of a category, counted from 1; `None` if the category is unknown.
    pub(super) fn category(&self, name: &str, page: usize) -> Option<String> {
        let from = page.saturating_sub(1).saturating_mul(PRODUCTS_PER_PAGE);
        let mut products = self.shelf.products_of(name, from, PRODUCTS_PER_PAGE + 1)?;
        let has_more = products.len() > PRODUCTS_PER_PAGE;
        products.truncate(PRODUCTS_PER_PAGE);
        let cards: String = products.iter().map(|product| product_card(product)).collect();
        let link = |page: usize, label: &str| format!(r#"<a href="?page={page}">{label}</a>"#);
        let previous = if page > 1 { link(page - 1, "Previous page") } else { String::new() };
        let next = if has_more { link(page.saturating_add(1), "Next page") } else { String::new() };
        let (label, pages) = (capitalise(name), previous + &next);
        let values = [
            ("products", Value::Markup(&cards)),
            ("pages", Value::Markup(&pages)),
            ("name", Value::Text(name)),
            ("label", Value::Text(&label)),
        ];
        Some(self.layout(&label, "", &fill(include_str!("category.html"), &values)))
    }

    /// The page of a product; `None` if the product is unknown.
    pub(super) fn product(&self, id: &str) -> Option<String> {
        let product = self.shelf.get(id)?;
        let Product { title, brand, category, .. } = &*product;
        let (label, price, amount) =
            (capitalise(category), format_price(product.price), format!("{:.2}", product.price));
        let description = format!(
            "{brand} makes this for people who like simple things that last. It is part of our {category}, \
             and it ships within two days."
        );
        let values = [
            ("id", Value::Text(id)),
            ("title", Value::Text(title)),
            ("brand", Value::Text(brand)),
            ("category", Value::Text(category)),
            ("label", Value::Text(&label)),
            ("price", Value::Text(&price)),
            ("amount", Value::Text(&amount)),
            ("description", Value::Text(&description)),
        ];
        let body = format!(r#"data-sequor-item="{}""#, escape(id));
        Some(self.layout(title, &body, &fill(include_str!("product.html"), &values)))
    }

    /// The cart, which the browser fills.
    pub(super) fn cart(&self) -> String {
        self.layout("Cart", "", include_str!("cart.html"))
    }

    /// The page of an unknown path.
    pub(super) fn missing(&self) -> String {
        self.layout("Page not found", "", include_str!("missing.html"))
    }
}

fn product_card(product: &Product) -> String {
    let price = format_price(product.price);
    let values =
        [("id", Value::Text(&product.id)), ("title", Value::Text(&product.title)), ("price", Value::Text(&price))];
    fill(include_str!("product_card.html"), &values)
}

/// A price as browsers format it in English.
fn format_price(price: f64) -> String {
    format!("€{price:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Entry;
    use crate::simulation::{ShopSettings, ShopSimulator};

    #[test]
    fn pages_have_no_open_placeholder() {
        let shelf = ProductShelf::default();
        let shop = ShopSimulator::new(ShopSettings { items: 1_000, ..ShopSettings::default() }).unwrap();
        for entry in shop.take(1_000) {
            let Entry::Item(mut change) = entry else { panic!("{entry:?}") };
            shelf.add(&mut change, "http://shop");
        }
        let pages = ShopPages { api: "http://api".to_owned(), shelf };
        let category = |page| pages.category("tea", page).unwrap();
        for page in
            [pages.home(), category(1), category(2), pages.product("tea-1").unwrap(), pages.cart(), pages.missing()]
        {
            assert!(!page.contains("{{") && page.contains("http://api/v1/widget.js"), "{page}");
        }
        assert!(category(1).contains("?page=2") && !category(2).contains("?page=3"));
        assert!(pages.category("cars", 1).is_none() && pages.product("<b>").is_none());
        assert_eq!(escape(r#"<a b="c">&"#), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
