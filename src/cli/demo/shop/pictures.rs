//! Pictures of the demo's products: a pictogram of the category in colours that follow from the
//! product's number.

/// The pictograms by category, in a square of 100 units. `M`, `D` and `L` stand for the main, the
/// dark and the light colour.
const PICTOGRAMS: [(&str, &str); 24] = [
    (
        "tea",
        r#"<path fill="M" d="M22 44h46v16a20 20 0 0 1-20 20h-6a20 20 0 0 1-20-20z"/><path fill="none" stroke="M" stroke-width="5" d="M68 48h6a8 8 0 0 1 0 17h-8"/><path fill="L" d="M47 38c-10-8-4-20 8-22 3 12 1 20-8 22z"/><path stroke="D" stroke-width="2" d="M46 44 54 20"/>"#,
    ),
    (
        "coffee",
        r#"<ellipse cx="38" cy="54" rx="16" ry="23" fill="D" transform="rotate(-24 38 54)"/><path fill="none" stroke="L" stroke-width="3" d="M31 36c12 9 0 22 13 36"/><ellipse cx="64" cy="48" rx="13" ry="19" fill="M" transform="rotate(28 64 48)"/><path fill="none" stroke="L" stroke-width="3" d="M71 33c-12 7 0 17-12 30"/>"#,
    ),
    (
        "cups",
        r#"<path fill="M" d="M26 28h42v42a10 10 0 0 1-10 10H36a10 10 0 0 1-10-10z"/><path fill="none" stroke="M" stroke-width="6" d="M68 38h5a10 10 0 0 1 10 10v4a10 10 0 0 1-10 10h-5"/><path fill="L" d="M26 44h42v10H26z"/>"#,
    ),
    (
        "teapots",
        r#"<path fill="M" d="M28 42h42c8 8 8 28-2 36H30c-10-8-10-28-2-36z"/><path fill="none" stroke="M" stroke-width="6" d="M72 66c10-2 8-18 16-22"/><path fill="none" stroke="D" stroke-width="5" d="M26 48c-18-2-16 24 0 22"/><path fill="D" d="M36 36h26l4 6H32z"/><circle cx="49" cy="30" r="5" fill="D"/>"#,
    ),
    (
        "plates",
        r#"<circle cx="50" cy="50" r="34" fill="M"/><circle cx="50" cy="50" r="22" fill="L"/><circle cx="50" cy="50" r="16" fill="none" stroke="D" stroke-width="2"/>"#,
    ),
    (
        "pans",
        r#"<circle cx="40" cy="54" r="27" fill="D"/><circle cx="40" cy="54" r="20" fill="M"/><path stroke="D" stroke-width="8" stroke-linecap="round" d="m62 38 24-18"/>"#,
    ),
    (
        "knives",
        r#"<path fill="L" d="M44 12c16 10 16 34 12 48H42z"/><rect x="41" y="62" width="16" height="28" rx="6" fill="D"/><circle cx="49" cy="70" r="2" fill="L"/><circle cx="49" cy="80" r="2" fill="L"/>"#,
    ),
    (
        "lamps",
        r#"<path fill="L" d="M36 18h28l16 32H20z"/><path stroke="D" stroke-width="5" d="M50 50v28"/><rect x="32" y="78" width="36" height="7" rx="3" fill="M"/>"#,
    ),
    (
        "chairs",
        r#"<path fill="M" d="M28 18h12v36h32v12H28z"/><path stroke="D" stroke-width="6" stroke-linecap="round" d="M31 66v20M69 66v20"/><rect x="38" y="46" width="34" height="10" rx="4" fill="L"/>"#,
    ),
    (
        "desks",
        r#"<rect x="14" y="36" width="72" height="9" rx="3" fill="M"/><path stroke="D" stroke-width="6" d="M21 45v38M79 45v38"/><rect x="52" y="45" width="26" height="16" fill="L"/><circle cx="65" cy="53" r="2" fill="D"/>"#,
    ),
    (
        "shelves",
        r#"<rect x="20" y="14" width="60" height="72" rx="3" fill="L"/><path stroke="M" stroke-width="5" d="M20 38h60M20 62h60M20 16v70M80 16v70M20 16h60M20 84h60"/><path stroke="D" stroke-width="7" d="M32 22v14M42 22v14M66 46v14M30 68v14M40 68v14M50 68v14"/>"#,
    ),
    (
        "rugs",
        r#"<rect x="22" y="18" width="56" height="64" fill="M"/><path fill="none" stroke="L" stroke-width="4" d="M30 26h40v48H30z"/><path fill="D" d="m50 34 12 16-12 16-12-16z"/><path stroke="D" stroke-width="2" d="M24 82v7M32 82v7M40 82v7M48 82v7M56 82v7M64 82v7M72 82v7M76 82v7"/>"#,
    ),
    (
        "pillows",
        r#"<path fill="M" d="M22 26c18 6 38 6 56 0 6 0 6 6 4 10-5 10-5 20 0 30 2 6 0 10-6 9-17-5-35-5-52 0-6 1-8-3-6-9 5-10 5-20 0-30-2-6-2-10 4-10z"/><circle cx="50" cy="51" r="5" fill="D"/><path fill="none" stroke="L" stroke-width="3" d="M36 40c8 4 20 4 28 0M36 62c8-4 20-4 28 0"/>"#,
    ),
    (
        "blankets",
        r#"<rect x="18" y="30" width="64" height="48" rx="6" fill="M"/><path fill="L" d="M18 46h64v8H18zM18 62h64v6H18z"/><path fill="D" d="M18 36a8 8 0 0 1 8-10h52a8 8 0 0 1 4 4v8H18z"/>"#,
    ),
    (
        "towels",
        r#"<path stroke="D" stroke-width="5" stroke-linecap="round" d="M14 22h72"/><path fill="M" d="M28 22h44v58H28z"/><path fill="L" d="M28 56h44v6H28zM28 66h44v4H28z"/><path fill="D" opacity=".25" d="M52 22h20v58H52z"/>"#,
    ),
    (
        "soaps",
        r#"<rect x="22" y="46" width="56" height="32" rx="12" fill="M"/><rect x="34" y="55" width="32" height="14" rx="7" fill="none" stroke="L" stroke-width="3"/><circle cx="36" cy="32" r="9" fill="L"/><circle cx="56" cy="24" r="6" fill="L"/><circle cx="64" cy="37" r="4" fill="D"/>"#,
    ),
    (
        "candles",
        r#"<rect x="36" y="42" width="28" height="42" rx="4" fill="M"/><path fill="L" d="M36 48c6 8 10-2 14 6s10-4 14-2v-6a4 4 0 0 0-4-4H40a4 4 0 0 0-4 4z"/><path stroke="D" stroke-width="3" d="M50 42v-7"/><path fill="D" d="M50 12c10 12 8 22 0 22s-10-10 0-22z"/>"#,
    ),
    (
        "vases",
        r#"<path fill="M" d="M38 40h24c-2 8 12 16 12 28 0 10-6 16-12 18H38c-6-2-12-8-12-18 0-12 14-20 12-28z"/><path fill="none" stroke="D" stroke-width="3" d="M46 40C44 28 36 24 32 16M54 40c0-14 8-18 12-26"/><circle cx="31" cy="16" r="6" fill="L"/><circle cx="67" cy="14" r="6" fill="L"/><path fill="L" d="M29 60h42l2 8H27z"/>"#,
    ),
    (
        "plants",
        r#"<path fill="D" d="M32 64h36l-5 24H37z"/><path fill="M" d="M50 64C28 58 22 40 24 26c16 4 26 18 26 38zM50 64c2-22 10-34 28-38 0 18-8 34-28 38z"/><path fill="L" d="M50 62c-8-18-6-34 0-48 7 14 8 32 0 48z"/>"#,
    ),
    (
        "seeds",
        r#"<path fill="M" d="M26 22h48v58a6 6 0 0 1-6 6H32a6 6 0 0 1-6-6z"/><path fill="D" d="M26 14h48v12H26z"/><circle cx="50" cy="54" r="16" fill="L"/><path fill="D" d="M50 66c-10-8-10-18 0-24 10 6 10 16 0 24z"/>"#,
    ),
    (
        "books",
        r#"<path fill="M" d="M24 18h46a6 6 0 0 1 6 6v62H30a6 6 0 0 1-6-6z"/><path fill="L" d="M30 74h46v8H30a4 4 0 0 1 0-8z"/><path stroke="D" stroke-width="4" d="M36 18v56"/><path stroke="L" stroke-width="4" d="M46 34h20M46 44h14"/>"#,
    ),
    (
        "pens",
        r#"<g transform="rotate(38 50 50)"><rect x="42" y="14" width="16" height="52" rx="4" fill="M"/><path fill="L" d="M42 66h16l-8 22z"/><path fill="D" d="m47 80 3 8 3-8zM42 26h16v6H42z"/></g>"#,
    ),
    (
        "clocks",
        r#"<circle cx="50" cy="50" r="34" fill="M"/><circle cx="50" cy="50" r="26" fill="L"/><path fill="none" stroke="D" stroke-width="4" stroke-linecap="round" d="M50 32v18l12 8"/><circle cx="50" cy="50" r="3" fill="D"/>"#,
    ),
    (
        "bags",
        r#"<path fill="none" stroke="D" stroke-width="5" d="M36 40V30a14 14 0 0 1 28 0v10"/><path fill="M" d="M24 38h52l5 46H19z"/><path fill="L" d="M40 54h20v14H40z"/>"#,
    ),
];

/// The picture of a product as SVG. It needs no style sheet, so it works under any CSP.
pub(super) fn draw_picture(category: &str, number: usize) -> String {
    let position = PICTOGRAMS.iter().position(|(name, _)| *name == category).unwrap_or_default();
    let pictogram = PICTOGRAMS.get(position).map_or("", |(_, pictogram)| *pictogram);
    // The golden angle spreads the hues of successive numbers.
    let hue = (position * 15 + number * 137) % 360;
    let other = (hue + 30 + number % 3 * 40) % 360;
    let drawn = pictogram
        .replace("\"M\"", &format!("\"hsl({hue},42%,46%)\""))
        .replace("\"D\"", &format!("\"hsl({hue},45%,27%)\""))
        .replace("\"L\"", &format!("\"hsl({other},55%,76%)\""));
    let ground = match number % 4 {
        0 => r#"<circle cx="50" cy="50" r="44" fill="G"/>"#,
        1 => r#"<path fill="G" d="M0 62h100v38H0z"/>"#,
        2 => r#"<path fill="G" d="M0 100 100 0v100z"/>"#,
        _ => r#"<circle cx="86" cy="12" r="34" fill="G"/><circle cx="8" cy="96" r="26" fill="G"/>"#,
    };
    let ground = ground.replace("\"G\"", &format!("\"hsl({other},40%,85%)\""));
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" width="400" height="400"><path fill="hsl({hue},32%,92%)" d="M0 0h100v100H0z"/>{ground}{drawn}</svg>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_a_category_differ_in_colour() {
        assert_eq!(draw_picture("tea", 1), draw_picture("tea", 1));
        assert_ne!(draw_picture("tea", 1), draw_picture("tea", 2));
        assert_ne!(draw_picture("tea", 1), draw_picture("cups", 1));
        for (category, _) in PICTOGRAMS {
            let picture = draw_picture(category, 7);
            assert!(!["\"M\"", "\"D\"", "\"L\"", "\"G\""].iter().any(|colour| picture.contains(colour)), "{picture}");
        }
    }
}
