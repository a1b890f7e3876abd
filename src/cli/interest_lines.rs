//! The errors of the interest models, as lines of a report.

use std::fmt;

use crate::domain::InterestScale;
use crate::learner::InterestErrors;

/// Displays the errors of each kind in four lines, which end with a line break.
pub(super) struct InterestLines<'a>(pub(super) &'a [InterestErrors]);

impl fmt::Display for InterestLines<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for errors in self.0 {
            let unit = if errors.scale == InterestScale::Logarithmic { " (of logarithms)" } else { "" };
            writeln!(out, "  values of {:<8}  {:>11}   predicted{unit}", errors.kind, errors.tests)?;
            writeln!(
                out,
                "    MSE             {:>12.4}   mean + user bias + item bias alone: {:.4}",
                errors.mse, errors.baseline_mse
            )?;
            writeln!(out, "    RMSE / MAE      {:>12.4} / {:.4}", errors.rmse, errors.mae)?;
            writeln!(out, "    calibration     {:>12.4}   squared error / predicted variance", errors.calibration)?;
        }
        Ok(())
    }
}
