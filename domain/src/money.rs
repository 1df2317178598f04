//! Amounts of money: [`Money`], an exact decimal with 54 places, wide enough that a quantity times a price times four
//! percentages has all its decimals. There are no operators: every step says what happens when it does not fit.

use std::fmt;

use ethnum::I256;

use crate::quantity::write_decimal;

/// Decimals of money: 15 of a quantity, 15 of a price and 6 of each of four discounts.
pub const MONEY_DECIMALS: usize = 54;

/// An exact amount of some currency, in steps of 10^-54; at least 22 digits fit before the point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Money(I256);

/// Why an amount of money could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MoneyError {
    /// The amount has more digits than fit.
    #[error("the amount is too large to be held exactly")]
    Overflow,
    /// The amount has more decimals than are held.
    #[error("the amount has more than {MONEY_DECIMALS} decimals")]
    TooPrecise,
    /// Not `-?[0-9]+(\.[0-9]+)?`.
    #[error("is not a plain decimal number")]
    Malformed,
}

/// How an amount is brought to fewer decimals. Every mode is symmetric about 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum RoundingMode {
    /// To the nearest; the exact middle to the even digit.
    #[default]
    HalfEven,
    /// To the nearest; the exact middle away from 0.
    HalfUp,
    /// Away from 0.
    Up,
    /// Towards 0.
    Down,
}

impl RoundingMode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::HalfEven, Self::HalfUp, Self::Up, Self::Down];

    /// The word of the catalog.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HalfEven => "half_even",
            Self::HalfUp => "half_up",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// The mode of a word of the catalog.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(I256::ZERO);

    /// From steps of 10^-54.
    #[must_use]
    pub const fn from_steps(steps: I256) -> Self {
        Self(steps)
    }

    /// In steps of 10^-54.
    #[must_use]
    pub const fn steps(self) -> I256 {
        self.0
    }

    /// From `steps * 10^-decimals`.
    ///
    /// # Errors
    /// When it does not fit; `decimals` above 54 do not exist.
    pub fn from_scaled(steps: I256, decimals: usize) -> Result<Self, MoneyError> {
        let places = MONEY_DECIMALS.checked_sub(decimals).ok_or(MoneyError::TooPrecise)?;
        steps.checked_mul(power_of_ten(places)).map(Self).ok_or(MoneyError::Overflow)
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The sum.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_add(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// The difference.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_sub(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// `self * numerator / denominator`, exact.
    ///
    /// # Errors
    /// When the result does not fit, or has more decimals than are held.
    pub fn checked_mul_ratio(self, numerator: u64, denominator: u64) -> Result<Self, MoneyError> {
        let (numerator, denominator) = (I256::from(numerator), I256::from(denominator));
        if denominator == I256::ZERO {
            return Err(MoneyError::TooPrecise);
        }
        // Division first wherever it is exact, since the product may be wider than the result.
        if self.0 % denominator == I256::ZERO {
            return (self.0 / denominator).checked_mul(numerator).map(Self).ok_or(MoneyError::Overflow);
        }
        let product = self.0.checked_mul(numerator).ok_or(MoneyError::Overflow)?;
        if product % denominator != I256::ZERO {
            return Err(MoneyError::TooPrecise);
        }
        Ok(Self(product / denominator))
    }

    /// Rounded to `decimals` places, such as a currency's minor unit.
    ///
    /// # Errors
    /// When the rounded amount does not fit.
    pub fn round(self, mode: RoundingMode, decimals: u32) -> Result<Self, MoneyError> {
        let Some(places) = MONEY_DECIMALS.checked_sub(decimals as usize) else { return Ok(self) };
        let unit = power_of_ten(places);
        let (quotient, rest) = (self.0 / unit, (self.0 % unit).abs());
        // The rest is below 10^54, so twice of it fits.
        let middle = (rest * I256::from(2)).cmp(&unit);
        let odd = quotient % I256::from(2) != I256::ZERO;
        let away = match mode {
            RoundingMode::HalfEven => middle.is_gt() || (middle.is_eq() && odd),
            RoundingMode::HalfUp => middle.is_ge(),
            RoundingMode::Up => rest != I256::ZERO,
            RoundingMode::Down => false,
        };
        let step = if self.0.is_negative() { I256::MINUS_ONE } else { I256::ONE };
        let quotient = if away { quotient + step } else { quotient };
        quotient.checked_mul(unit).map(Self).ok_or(MoneyError::Overflow)
    }

    /// Reads what [`Display`](fmt::Display) writes: `-?[0-9]+(\.[0-9]{1,54})?`.
    ///
    /// # Errors
    /// Says which bound the text breaks.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(MoneyError::Malformed),
            Some(parts) => parts,
            None => (digits, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return Err(MoneyError::Malformed);
        }
        let mut steps = I256::ZERO;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let shifted = steps.checked_mul(I256::from(10)).ok_or(MoneyError::Overflow)?;
            steps = shifted.checked_add(I256::from(byte - b'0')).ok_or(MoneyError::Overflow)?;
        }
        Self::from_scaled(if negative { -steps } else { steps }, fraction.len())
    }

    /// With at least `decimals` places, as invoices write amounts: `1.5` with two is `1.50`.
    #[must_use]
    pub fn to_fixed(self, decimals: usize) -> String {
        let text = self.to_string();
        let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        if places >= decimals {
            return text;
        }
        let point = if places == 0 { "." } else { "" };
        format!("{text}{point}{}", "0".repeat(decimals - places))
    }
}

impl fmt::Display for Money {
    /// Plain text without exponent or superfluous zeros; zero is `0`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(formatter, self.0, MONEY_DECIMALS)
    }
}

/// 10^`places`, for at most 54 places.
fn power_of_ten(places: usize) -> I256 {
    (0..places).fold(I256::ONE, |power, _| power * I256::from(10))
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use num_rational::BigRational;
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        Money::parse(text).expect(text)
    }

    fn rational(money: Money) -> BigRational {
        let steps: BigInt = money.steps().to_string().parse().expect("digits");
        BigRational::new(steps, BigInt::from(10).pow(54))
    }

    #[test]
    fn g14_rounding_is_symmetric_about_zero_in_every_mode() {
        for (text, half_even, half_up, up, down) in [
            ("0.125", "0.12", "0.13", "0.13", "0.12"),
            ("0.135", "0.14", "0.14", "0.14", "0.13"),
            ("0.1250000001", "0.13", "0.13", "0.13", "0.12"),
            ("0.121", "0.12", "0.12", "0.13", "0.12"),
            ("7", "7", "7", "7", "7"),
        ] {
            for (mode, expected) in RoundingMode::ALL.into_iter().zip([half_even, half_up, up, down]) {
                assert_eq!(money(text).round(mode, 2).expect("fits"), money(expected), "{text} {mode:?}");
                let negative = money(&format!("-{text}")).round(mode, 2).expect("fits");
                assert_eq!(negative, money(&format!("-{expected}")), "-{text} {mode:?}");
            }
        }
        assert_eq!(money("0.5").round(RoundingMode::HalfEven, 0), Ok(Money::ZERO));
        assert_eq!(money("1.5").round(RoundingMode::HalfEven, 0), Ok(money("2")));
    }

    #[test]
    fn g14_what_does_not_fit_is_an_error() {
        let most = Money::from_steps(I256::MAX);
        assert_eq!(most.checked_add(Money::from_steps(I256::ONE)), Err(MoneyError::Overflow));
        assert_eq!(most.checked_mul_ratio(2, 1), Err(MoneyError::Overflow));
        assert_eq!(most.round(RoundingMode::Up, 0), Err(MoneyError::Overflow));
        assert_eq!(Money::from_steps(I256::ONE).checked_mul_ratio(1, 2), Err(MoneyError::TooPrecise));
        assert_eq!(Money::parse(&"9".repeat(30)), Err(MoneyError::Overflow));
        for bad in ["", "-", "1.", ".1", "1e3", "+1", "1,0", " 1"] {
            assert_eq!(Money::parse(bad), Err(MoneyError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn amounts_are_written_with_the_places_asked_for() {
        assert_eq!(money("1.5").to_fixed(2), "1.50");
        assert_eq!(money("-3").to_fixed(2), "-3.00");
        assert_eq!(money("3").to_fixed(0), "3");
        assert_eq!(money("0.123").to_fixed(2), "0.123");
    }

    proptest! {
        #[test]
        fn g14_steps_are_those_of_the_rational_oracle(a in any::<i128>(), b in any::<i128>(), part in 0_u64..1_000_000) {
            let left = Money::from_scaled(I256::from(a), 30).expect("fits");
            let right = Money::from_scaled(I256::from(b), 30).expect("fits");
            prop_assert_eq!(rational(left.checked_add(right).expect("fits")), rational(left) + rational(right));
            prop_assert_eq!(rational(left.checked_sub(right).expect("fits")), rational(left) - rational(right));
            let share = left.checked_mul_ratio(part, 1_000_000).expect("24 decimals are free");
            let ratio = BigRational::new(part.into(), 1_000_000.into());
            prop_assert_eq!(rational(share), rational(left) * ratio);
            prop_assert_eq!(Money::parse(&share.to_string()), Ok(share));
        }

        #[test]
        fn rounding_moves_by_less_than_one_unit_and_is_stable(steps in any::<i128>(), decimals in 0_u32..5) {
            let exact = Money::from_scaled(I256::from(steps), 20).expect("fits");
            for mode in RoundingMode::ALL {
                let rounded = exact.round(mode, decimals).expect("fits");
                let unit = BigRational::new(1.into(), BigInt::from(10).pow(decimals));
                let moved = rational(rounded) - rational(exact);
                let moved = if moved < BigRational::from_integer(0.into()) { -moved } else { moved };
                prop_assert!(moved < unit);
                prop_assert_eq!(rounded.round(mode, decimals), Ok(rounded));
            }
        }
    }
}
