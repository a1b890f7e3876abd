//! The names of the presets.

/// A file format of an analytics tool or a shop system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Events of Google Analytics 4, exported from BigQuery as JSON lines or Parquet.
    Ga4,
    /// Visits of Matomo: the response of `Live.getLastVisitsDetails` as JSON.
    Matomo,
    /// Events of PostHog, exported as JSON lines or Parquet.
    Posthog,
    /// Enriched events of Snowplow: tab-separated values with 131 columns.
    Snowplow,
    /// A product feed for Google Merchant Center: RSS 2.0, Atom, or tab-separated values.
    GoogleMerchant,
    /// A product export of Shopify (CSV).
    Shopify,
    /// A product export of WooCommerce (CSV).
    Woocommerce,
}

impl Preset {
    /// All presets: first those of events, then those of catalogs.
    pub const ALL: [Self; 7] = [
        Self::Ga4,
        Self::Matomo,
        Self::Posthog,
        Self::Snowplow,
        Self::GoogleMerchant,
        Self::Shopify,
        Self::Woocommerce,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ga4 => "ga4",
            Self::Matomo => "matomo",
            Self::Posthog => "posthog",
            Self::Snowplow => "snowplow",
            Self::GoogleMerchant => "google-merchant",
            Self::Shopify => "shopify",
            Self::Woocommerce => "woocommerce",
        }
    }

    /// The preset with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// A description of one line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Self::Ga4 => "events: Google Analytics 4, BigQuery export as JSON lines or Parquet",
            Self::Matomo => "events: Matomo, Live.getLastVisitsDetails as JSON",
            Self::Posthog => "events: PostHog, batch export as JSON lines or Parquet",
            Self::Snowplow => "events: Snowplow, enriched events as TSV",
            Self::GoogleMerchant => "catalog: Google Merchant Center feed, XML or TSV",
            Self::Shopify => "catalog: Shopify product export, CSV",
            Self::Woocommerce => "catalog: WooCommerce product export, CSV",
        }
    }

    /// Whether the records of the files can also be the rows of a Parquet file.
    pub(super) fn reads_parquet(self) -> bool {
        matches!(self, Self::Ga4 | Self::Posthog)
    }

    /// Whether the files describe items; the files of the other presets hold events.
    #[must_use]
    pub fn is_catalog(self) -> bool {
        matches!(self, Self::GoogleMerchant | Self::Shopify | Self::Woocommerce)
    }
}
