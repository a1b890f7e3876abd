//! Reports that are computed from the journal. A report is a fold over the entries in journal order:
//! it needs no state of the daemon, so it also covers the time before it was configured.

mod attribution;
mod intervals;
mod live;
mod placement_quality;
mod touches;

pub use attribution::{AttributionFold, AttributionReport, AttributionRow, GroupBy, ReportWindow, Revenue};
pub use intervals::{Interval, compound_interval, wilson_interval};
pub use live::{AttributedEvent, AttributionUpdate, LiveAttribution, NewlyShownItems};
pub use placement_quality::PlacementQuality;
pub use touches::{AttributionSettings, ConversionTouch};
