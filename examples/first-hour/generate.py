"""Writes the sample of docs/first-hour.md: the catalog of a small shop, and three weeks of its visitors' events.

`python3 generate.py` writes catalog.csv and events.csv.gz into its folder. The same program writes the same bytes.
"""

import csv
import gzip
import io
import random
from pathlib import Path

# Category: brands, kinds of product, price of the cheapest product.
CATEGORIES = {
    "tea": (["Leaf", "Highland", "Sencha"], ["green", "black", "white", "herbal", "oolong", "rooibos"], 4.5),
    "teaware": (["Kiln", "Glass & Co"], ["teapot", "cup", "infuser", "tin", "tray", "kettle"], 9.0),
    "coffee": (["Roast", "Highland"], ["espresso", "filter", "decaf", "crema"], 6.0),
    "coffeeware": (["Kiln", "Steam"], ["grinder", "press", "dripper", "mug", "scale"], 12.0),
    "sweets": (["Baker"], ["shortbread", "honey", "chocolate", "almonds", "ginger"], 3.0),
}
# What a visitor of a category looks at next.
NEXT = {
    "tea": ["tea"] * 6 + ["teaware"] * 3 + ["sweets"],
    "teaware": ["teaware"] * 5 + ["tea"] * 4 + ["sweets"],
    "coffee": ["coffee"] * 6 + ["coffeeware"] * 3 + ["sweets"],
    "coffeeware": ["coffeeware"] * 5 + ["coffee"] * 4 + ["sweets"],
    "sweets": ["sweets"] * 4 + ["tea"] * 3 + ["coffee"] * 3,
}
DAY_MS = 24 * 3_600_000
FIRST_DAY_MS = 1_780_272_000_000  # 2026-06-01


def write(file: Path, rows: list[list[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    content = text.getvalue().encode()
    # A constant time stamp keeps the bytes of the archive constant.
    file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)


def main() -> None:
    rng = random.Random(7)
    products = {
        category: [f"{kind}-{brand.split()[0].lower()}" for brand in brands for kind in kinds]
        for category, (brands, kinds, _) in CATEGORIES.items()
    }
    catalog: list[list[object]] = [["item_id", "categories", "brand", "price"]]
    for category, (brands, kinds, cheapest) in CATEGORIES.items():
        names = iter(products[category])
        catalog += [
            [next(names), category, brand, f"{cheapest * rng.uniform(1, 3):.2f}"]
            for brand in brands
            for _ in kinds
        ]
    events: list[tuple[int, list[object]]] = []
    for visit in range(1_200):
        visitor = f"v{rng.randrange(450)}"
        time = FIRST_DAY_MS + int(visit / 1_200 * 21 * DAY_MS) + rng.randrange(2 * 3_600_000)
        category = rng.choice(["tea", "tea", "coffee", "teaware", "coffeeware", "sweets"])
        # The products of a category have an order, which most visitors follow.
        position = rng.randrange(len(products[category]))
        for _ in range(rng.choice([1, 2, 3, 4, 5, 6, 8])):
            item = products[category][position]
            events.append((time, [visitor, item, "view", time]))
            if rng.random() < 0.15:
                events.append((time + 20_000, [visitor, item, "addtocart", time + 20_000]))
                if rng.random() < 0.4:
                    events.append((time + 60_000, [visitor, item, "order", time + 60_000]))
            time += rng.randrange(90_000, 240_000)
            previous, category = category, rng.choice(NEXT[category])
            step = rng.choice([1, 1, 1, 2, -1]) if category == previous else rng.randrange(3)
            position = (position + step) % len(products[category])
    events.sort(key=lambda event: event[0])
    folder = Path(__file__).parent
    write(folder / "catalog.csv", catalog)
    write(folder / "events.csv.gz", [["visitor", "sku", "event", "time"], *(row for _, row in events)])


main()
