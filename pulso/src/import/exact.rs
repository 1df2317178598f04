//! Decimals of a bill, exact: read with or without an exponent, multiplied and added without loss, never a float.

use std::fmt;

use ethnum::I256;
use pulso_domain::quantity::{QUANTITY_DECIMALS, Quantity, write_decimal};

/// Decimals kept: the product of two numbers of 15 decimals fits exactly.
const DECIMALS: usize = 2 * QUANTITY_DECIMALS;
/// Digits before the point of a price or quantity; a longer text is no honest number.
const TEXT_BYTES_MAX: usize = 400;

/// A number with up to 30 decimals and 46 digits before the point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Exact(I256);

/// Why a text is no such number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExactError {
    /// Not a decimal number.
    #[error("is no decimal number")]
    Malformed,
    /// Needs more decimals than are kept.
    #[error("needs too many decimals")]
    TooPrecise,
    /// Has too many digits before the point.
    #[error("is too large")]
    TooLarge,
}

impl Exact {
    /// Nothing.
    pub const ZERO: Self = Self(I256::ZERO);

    /// Reads `[+-]digits[.digits][e[+-]digits]`. Zeros at the end take no room: `1.50e-1` is `0.15`.
    ///
    /// # Errors
    /// Says which bound the text breaks.
    pub fn parse(text: &str) -> Result<Self, ExactError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ExactError::Malformed);
        }
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(place) => (&rest[..place], parse_exponent(&rest[place + 1..])?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return Err(ExactError::Malformed);
        }
        let digits = format!("{whole}{fraction}");
        // The number is `digits * 10^power`.
        let power = exponent - length(fraction);
        let steps = Self::scaled(&digits, power)?;
        Ok(Self(if negative { -steps } else { steps }))
    }

    /// `digits * 10^power` in steps.
    fn scaled(digits: &str, power: i64) -> Result<I256, ExactError> {
        let significant = digits.trim_end_matches('0');
        let power = power + length(digits) - length(significant);
        let significant = significant.trim_start_matches('0');
        if significant.is_empty() {
            return Ok(I256::ZERO);
        }
        let shift = u32::try_from(power + length_of_decimals()).map_err(|_| ExactError::TooPrecise)?;
        let mut steps = I256::ZERO;
        for byte in significant.bytes() {
            let digit = I256::from(byte - b'0');
            steps = steps
                .checked_mul(I256::from(10))
                .and_then(|s| s.checked_add(digit))
                .ok_or(ExactError::TooLarge)?;
        }
        let factor = I256::from(10).checked_pow(shift).ok_or(ExactError::TooLarge)?;
        steps.checked_mul(factor).ok_or(ExactError::TooLarge)
    }

    /// The same number with at most 15 decimals, as quantities and prices have.
    ///
    /// # Errors
    /// When it needs more decimals, or has more digits than a quantity may have.
    pub fn to_quantity(self) -> Result<Quantity, ExactError> {
        let step = I256::from(10).pow(QUANTITY_DECIMALS as u32);
        if self.0 % step != I256::ZERO {
            return Err(ExactError::TooPrecise);
        }
        // The domain's own bound of digits, by its own rule.
        Quantity::parse(self.to_string().as_bytes()).map_err(|_| ExactError::TooLarge)
    }

    /// Quantity times price: exact.
    #[must_use]
    pub fn product(quantity: Quantity, price: Quantity) -> Option<Self> {
        I256::from(quantity.steps()).checked_mul(I256::from(price.steps())).map(Self)
    }

    /// The sum, `None` when it does not fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, `None` when it does not fit.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0.is_negative()
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Exact {
    /// Plain text without exponent or superfluous zeros.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(formatter, self.0, DECIMALS)
    }
}

fn parse_exponent(text: &str) -> Result<i64, ExactError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Four digits reach far beyond every number that fits.
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ExactError::Malformed);
    }
    text.strip_prefix('+').unwrap_or(text).parse().map_err(|_| ExactError::Malformed)
}

fn length(text: &str) -> i64 {
    // At most TEXT_BYTES_MAX.
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

fn length_of_decimals() -> i64 {
    i64::try_from(DECIMALS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Result<String, ExactError> {
        Exact::parse(text).map(|exact| exact.to_string())
    }

    #[test]
    fn numbers_are_read_with_and_without_exponent() {
        for (written, plain) in [
            ("0.00000160590", "0.0000016059"),
            ("4E-10", "0.0000000004"),
            ("1.5e3", "1500"),
            ("-1.50E+1", "-15"),
            (".5", "0.5"),
            ("5.", "5"),
            ("0e999", "0"),
            ("100000000000000000000000000000000000000000e-40", "10"),
        ] {
            assert_eq!(text(written).as_deref(), Ok(plain), "{written}");
        }
    }

    #[test]
    fn what_is_no_number_or_does_not_fit_is_said() {
        for bad in ["", ".", "-", "NULL", "1e", "1e1.5", "1,5", "0x10", "NaN", "1e99999", " 1"] {
            assert_eq!(text(bad), Err(ExactError::Malformed), "{bad:?}");
        }
        assert_eq!(text("1e-31"), Err(ExactError::TooPrecise));
        assert_eq!(text("1e50"), Err(ExactError::TooLarge));
        assert_eq!(Exact::parse("1e-16").and_then(Exact::to_quantity), Err(ExactError::TooPrecise));
        assert_eq!(Exact::parse("1e23").and_then(Exact::to_quantity), Err(ExactError::TooLarge));
    }

    proptest! {
        #[test]
        fn products_and_sums_are_those_of_big_integers(a in any::<i64>(), b in any::<i64>(), c in any::<i64>()) {
            let quantity = |steps: i64| Quantity::from_steps(i128::from(steps));
            let sum = Exact::product(quantity(a), quantity(b))
                .and_then(|ab| ab.plus(Exact::product(quantity(b), quantity(c))?))
                .expect("fits");
            let expected = i128::from(a) * i128::from(b);
            let wide = I256::from(expected) + I256::from(i128::from(b) * i128::from(c));
            prop_assert_eq!(sum, Exact(wide));
            prop_assert_eq!(Exact::parse(&sum.to_string()), Ok(sum));
        }
    }
}
