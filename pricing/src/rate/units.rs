//! Units of use and what converts to what: only by exact ratios of whole numbers, by the names that FOCUS uses.
//!
//! Conversion happens in rating alone; a quantity that does not convert exactly within 15 decimals is not priced.

use ethnum::I256;
use pulso_domain::quantity::QuantitySum;

/// `numerator / denominator` units of one kind make one of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio {
    numerator: u64,
    denominator: u64,
}

/// A named unit's size within its dimension.
struct Scale {
    dimension: Dimension,
    size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dimension {
    /// In bits.
    Data,
    /// In seconds.
    Time,
    /// In requests.
    Requests,
}

impl Ratio {
    /// The same unit.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// How many `to` one `from` is; `None` when that cannot be said exactly.
    ///
    /// Units of equal name always convert. Others have to be names such as `MiB`, `Minutes`, `Requests/1000`, or two of
    /// them joined by a dash, such as `GiB-Hours`.
    #[must_use]
    pub fn between(from: &str, to: &str) -> Option<Self> {
        if from == to {
            return Some(Self::ONE);
        }
        let (from, to) = (parts(from)?, parts(to)?);
        if from.len() != to.len() {
            return None;
        }
        let mut ratio = (1_u128, 1_u128);
        for (one, other) in from.iter().zip(&to) {
            if one.dimension != other.dimension {
                return None;
            }
            let shared = greatest_divisor(one.size, other.size);
            ratio.0 = ratio.0.checked_mul(u128::from(one.size / shared))?;
            ratio.1 = ratio.1.checked_mul(u128::from(other.size / shared))?;
        }
        Some(Self { numerator: u64::try_from(ratio.0).ok()?, denominator: u64::try_from(ratio.1).ok()? })
    }

    /// The quantity in the other unit; `None` when it does not fit exactly.
    #[must_use]
    pub fn convert(self, quantity: QuantitySum) -> Option<QuantitySum> {
        if self == Self::ONE {
            return Some(quantity);
        }
        let product = quantity.steps().checked_mul(I256::from(self.numerator))?;
        let denominator = I256::from(self.denominator);
        if product % denominator != I256::ZERO {
            return None;
        }
        QuantitySum::from_steps(product / denominator)
    }
}

/// The scales of a unit: one, or two when it is a product.
fn parts(unit: &str) -> Option<Vec<Scale>> {
    unit.split('-').map(scale).collect::<Option<Vec<_>>>().filter(|parts| parts.len() <= 2)
}

fn scale(name: &str) -> Option<Scale> {
    if let Some(rest) = name.strip_prefix("Requests").or_else(|| name.strip_prefix("Request")) {
        let size = match rest.strip_prefix('/') {
            None if rest.is_empty() => 1,
            None => return None,
            Some(number) => number.parse().ok().filter(|size| *size > 0)?,
        };
        return Some(Scale { dimension: Dimension::Requests, size });
    }
    let time = |size| Some(Scale { dimension: Dimension::Time, size });
    match name {
        "Second" | "Seconds" => return time(1),
        "Minute" | "Minutes" => return time(60),
        "Hour" | "Hours" => return time(3600),
        "Day" | "Days" => return time(86_400),
        _ => {}
    }
    // `B` is a byte and `b` a bit, as in FOCUS's list of units.
    let (prefix, bits) = match (name.strip_suffix('B'), name.strip_suffix('b')) {
        (Some(prefix), _) => (prefix, 8),
        (_, Some(prefix)) => (prefix, 1),
        _ => return None,
    };
    let factor: u64 = match prefix {
        "" => 1,
        "K" | "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    Some(Scale { dimension: Dimension::Data, size: factor * bits })
}

const fn greatest_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use pulso_domain::quantity::Quantity;

    use super::*;

    fn convert(quantity: &str, from: &str, to: &str) -> Option<String> {
        let quantity = Quantity::parse(quantity.as_bytes()).expect("good");
        Ratio::between(from, to)?.convert(quantity.into()).map(|quantity| quantity.to_string())
    }

    #[test]
    fn units_convert_by_exact_ratios() {
        for (quantity, from, to, expected) in [
            ("2048", "MiB-Hours", "GiB-Hours", "2"),
            ("1", "GiB-Hours", "GB-Hours", "1.073741824"),
            ("1", "TiB", "GiB", "1024"),
            ("5400", "Seconds", "Hours", "1.5"),
            ("1500", "Requests", "Requests/1000", "1.5"),
            ("2", "Requests/1000000", "Requests/1000", "2000"),
            ("7200", "MiB-Seconds", "MiB-Hours", "2"),
            ("3", "Widgets", "Widgets", "3"),
        ] {
            assert_eq!(convert(quantity, from, to).as_deref(), Some(expected), "{quantity} {from} in {to}");
        }
    }

    #[test]
    fn what_is_not_exact_or_of_another_kind_does_not_convert() {
        for (quantity, from, to) in [
            ("1", "Seconds", "Hours"),
            ("0.0000001", "GB-Hours", "GiB-Hours"),
            ("1", "Hours", "GiB"),
            ("1", "GiB-Hours", "GiB"),
            ("1", "Widgets", "Gadgets"),
            ("1", "Requests/0", "Requests"),
            ("1", "hours", "Hours"),
        ] {
            assert_eq!(convert(quantity, from, to), None, "{quantity} {from} in {to}");
        }
    }
}
