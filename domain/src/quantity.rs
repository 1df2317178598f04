//! Amounts of use: [`Quantity`] for one pulse, [`QuantitySum`] for any number of them. Fixed point, 15 decimals, exact.
//!
//! FOCUS data and public consumption APIs use 15 decimals; more are refused, never rounded.

use std::fmt;

use ethnum::I256;

/// Decimals of every quantity.
pub const QUANTITY_DECIMALS: usize = 15;
/// Digits that a quantity may have before its point; with the decimals 38 digits, which an `i128` always holds.
pub const QUANTITY_INTEGER_DIGITS_MAX: usize = 23;
/// One whole unit in quantity steps.
pub const QUANTITY_ONE: i128 = 1_000_000_000_000_000;

/// The amount of one pulse in steps of 10^-15 of its unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Quantity(i128);

/// Why a text is no quantity. Each maps to `INVALID_AMOUNT`; the difference is for the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    /// Not `-?(0|[1-9][0-9]*)(\.[0-9]+)?`.
    #[error("is not a plain decimal number")]
    Malformed,
    /// More than 15 decimals.
    #[error("has more than 15 decimals")]
    TooPrecise,
    /// More than 23 digits before the point.
    #[error("has more than 23 digits before the point")]
    TooLarge,
}

impl Quantity {
    /// Nothing used.
    pub const ZERO: Self = Self(0);

    /// From steps of 10^-15.
    #[must_use]
    pub const fn from_steps(steps: i128) -> Self {
        Self(steps)
    }

    /// In steps of 10^-15.
    #[must_use]
    pub const fn steps(self) -> i128 {
        self.0
    }

    /// Whether the amount is below zero, which only a caller who may correct can send.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Reads `-?(0|[1-9][0-9]*)(\.[0-9]{1,15})?`, ASCII only, at most 23 digits before the point; `-0` is 0.
    ///
    /// # Errors
    /// Says which of the three bounds the text breaks.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Self, QuantityError> {
        let quick = if (4..=8).contains(&text.len()) { parse_word(text) } else { parse_short(text) };
        quick.map_or_else(|| Self::parse_any(text), Ok)
    }

    fn parse_any(text: &[u8]) -> Result<Self, QuantityError> {
        let (negative, digits) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let integer_len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (integer, rest) = digits.split_at(integer_len);
        if integer.is_empty() || (integer.len() > 1 && integer[0] == b'0') {
            return Err(QuantityError::Malformed);
        }
        let fraction = match rest.split_first() {
            None => rest,
            Some((b'.', fraction)) if !fraction.is_empty() => fraction,
            Some(_) => return Err(QuantityError::Malformed),
        };
        if !fraction.iter().all(u8::is_ascii_digit) {
            return Err(QuantityError::Malformed);
        }
        if integer.len() > QUANTITY_INTEGER_DIGITS_MAX {
            return Err(QuantityError::TooLarge);
        }
        if fraction.len() > QUANTITY_DECIMALS {
            return Err(QuantityError::TooPrecise);
        }
        let steps = scaled_steps(integer, fraction);
        Ok(Self(if negative { -steps } else { steps }))
    }
}

/// Reads a good amount of four to eight characters without a sign, all of them at once; `None` for any other text.
#[inline]
fn parse_word(text: &[u8]) -> Option<Quantity> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let (first, last) = (text.first_chunk()?, text.last_chunk()?);
    // The text ends in the most significant byte; before it stand `unused` bytes.
    let unused = 8 - text.len();
    let word =
        u64::from(u32::from_le_bytes(*first)) << (8 * unused) | u64::from(u32::from_le_bytes(*last)) << 32;
    let no_point = word ^ (u64::from(b'.') * ONES);
    let points = no_point.wrapping_sub(ONES) & !no_point & HIGHS;
    // The first point's place, and all characters but the point, moved together. A second one is no digit.
    let (point, mut digits, leading) = if points == 0 {
        (8, word, unused)
    } else {
        let point = points.trailing_zeros() as usize / 8;
        let before = (1_u64 << (8 * point)) - 1;
        (point, (word & before) << 8 | word & !(before << 8 | 0xff), unused + 1)
    };
    if leading > 0 {
        digits |= (u64::from(b'0') * ONES) >> (64 - 8 * leading);
    }
    let digits = digits ^ (u64::from(b'0') * ONES);
    let decimals = if points == 0 { 0 } else { 7 - point };
    let is_good = (digits.wrapping_add(0x76 * ONES) | digits) & HIGHS == 0
        && point > unused
        && (points == 0 || decimals > 0)
        && (point == unused + 1 || text[0] != b'0');
    if !is_good {
        return None;
    }
    // Pairs of digits, then fours, then all eight; the first is the most significant.
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let even = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let odd = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    let number = even.wrapping_add(odd) >> 32;
    let steps = u128::from(number) * u128::from(POWERS_OF_TEN[QUANTITY_DECIMALS - decimals]);
    Some(Quantity(steps.cast_signed()))
}

/// Reads a good amount of at most 18 characters without a sign, nearly every one; `None` for any other text.
#[inline]
fn parse_short(text: &[u8]) -> Option<Quantity> {
    if text.len() > 18 {
        return None;
    }
    // Digits of both parts as one number, which is below 10^18.
    let (mut digits, mut point) = (0_u64, text.len());
    for (place, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if *byte == b'.' && point == text.len() {
            point = place;
        } else {
            return None;
        }
    }
    let decimals = text.len().saturating_sub(point + 1);
    let leading_zero = point > 1 && text[0] == b'0';
    if point == 0 || leading_zero || point + 1 == text.len() || decimals > QUANTITY_DECIMALS {
        return None;
    }
    let steps = u128::from(digits) * u128::from(POWERS_OF_TEN[QUANTITY_DECIMALS - decimals]);
    Some(Quantity(steps.cast_signed()))
}

/// `integer.fraction` in steps. Short numbers, nearly all of them, stay in 64 bits, which is several times faster.
fn scaled_steps(integer: &[u8], fraction: &[u8]) -> i128 {
    let small = |digits: &[u8]| digits.iter().fold(0_u64, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    let fraction_steps = small(fraction) * POWERS_OF_TEN[QUANTITY_DECIMALS - fraction.len()];
    let whole = if integer.len() <= 19 {
        i128::from(small(integer))
    } else {
        integer.iter().fold(0_i128, |sum, byte| sum * 10 + i128::from(byte - b'0'))
    };
    whole * QUANTITY_ONE + i128::from(fraction_steps)
}

const POWERS_OF_TEN: [u64; QUANTITY_DECIMALS + 1] = {
    let mut powers = [1_u64; QUANTITY_DECIMALS + 1];
    let mut exponent = 1;
    while exponent <= QUANTITY_DECIMALS {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

impl fmt::Display for Quantity {
    /// Plain text without exponent or superfluous zeros; zero is `0`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(formatter, I256::from(self.0), QUANTITY_DECIMALS)
    }
}

/// Writes `steps * 10^-decimals` as plain decimal text without superfluous zeros.
///
/// # Errors
/// Those of the formatter.
pub fn write_decimal(formatter: &mut fmt::Formatter<'_>, steps: I256, decimals: usize) -> fmt::Result {
    let digits = format!("{:0>width$}", steps.unsigned_abs(), width = decimals + 1);
    let (integer, fraction) = digits.split_at(digits.len() - decimals);
    let fraction = fraction.trim_end_matches('0');
    let sign = if steps.is_negative() { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    write!(formatter, "{sign}{integer}{point}{fraction}")
}

/// The sum of any number of quantities: 192 bits wide, so that 2^64 pulses of the largest amount fit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct QuantitySum {
    low: u128,
    high: i64,
}

impl QuantitySum {
    /// The empty sum.
    pub const ZERO: Self = Self { low: 0, high: 0 };
    /// Bytes of the stored form.
    pub const BYTES: usize = 24;

    /// Adds one quantity. Cannot overflow: a row's count is 64 bits, a quantity below 2^127.
    #[inline]
    pub fn add(&mut self, quantity: Quantity) {
        self.add_parts(quantity.0.cast_unsigned(), (quantity.0 >> 127) as i64);
    }

    /// Adds another sum.
    #[inline]
    pub fn add_sum(&mut self, other: Self) {
        self.add_parts(other.low, other.high);
    }

    #[inline]
    fn add_parts(&mut self, low: u128, high: i64) {
        let (low, carry) = self.low.overflowing_add(low);
        self.low = low;
        self.high = self.high.wrapping_add(high).wrapping_add(i64::from(carry));
    }

    /// The exact value in steps of 10^-15.
    #[must_use]
    pub fn steps(self) -> I256 {
        (I256::from(self.high) << 128) | I256::from(self.low)
    }

    /// From steps of 10^-15; `None` beyond 192 bits.
    #[must_use]
    pub fn from_steps(steps: I256) -> Option<Self> {
        let sum = Self { low: steps.as_u128(), high: (steps >> 128_u32).as_i64() };
        (sum.steps() == steps).then_some(sum)
    }

    /// Whether the sum is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The stored form: 24 bytes, little endian, two's complement.
    #[must_use]
    pub fn to_le_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.low.to_le_bytes());
        bytes[16..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    /// Reads the stored form.
    #[must_use]
    pub fn from_le_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut low = [0; 16];
        low.copy_from_slice(&bytes[..16]);
        let mut high = [0; 8];
        high.copy_from_slice(&bytes[16..]);
        Self { low: u128::from_le_bytes(low), high: i64::from_le_bytes(high) }
    }
}

impl From<Quantity> for QuantitySum {
    fn from(quantity: Quantity) -> Self {
        let mut sum = Self::ZERO;
        sum.add(quantity);
        sum
    }
}

impl PartialOrd for QuantitySum {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QuantitySum {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.high.cmp(&other.high).then(self.low.cmp(&other.low))
    }
}

impl fmt::Display for QuantitySum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(formatter, self.steps(), QUANTITY_DECIMALS)
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use num_rational::BigRational;
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Quantity, QuantityError> {
        Quantity::parse(text.as_bytes())
    }

    #[test]
    fn good_amounts_are_read_and_written_without_superfluous_zeros() {
        for (text, plain) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000000000000001", "0.000000000000001"),
            ("1.50", "1.5"),
            ("-12.25", "-12.25"),
            ("99999999999999999999999.999999999999999", "99999999999999999999999.999999999999999"),
        ] {
            assert_eq!(parse(text).expect(text).to_string(), plain);
        }
    }

    #[test]
    fn bad_amounts_say_which_bound_they_break() {
        for bad in [
            "", "-", ".5", "5.", "+1", "01", "1e3", "NaN", "inf", " 1", "1 ", "1,5", "1.2.3", "\u{0661}",
            "--1", "1.-5",
        ] {
            assert_eq!(parse(bad), Err(QuantityError::Malformed), "{bad:?}");
        }
        assert_eq!(parse("0.0000000000000001"), Err(QuantityError::TooPrecise));
        assert_eq!(parse("100000000000000000000000"), Err(QuantityError::TooLarge));
    }

    /// The value of a plain decimal text, by arithmetic that shares nothing with the code under test.
    fn oracle(text: &str) -> BigRational {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits: BigInt = format!("{whole}{fraction}").parse().expect("digits");
        BigRational::new(digits, BigInt::from(10).pow(u32::try_from(fraction.len()).expect("short")))
    }

    #[test]
    fn every_short_text_is_read_as_any_other() {
        // All texts of up to six of these characters, with and without two more before and behind.
        let characters = b"019./:";
        for length in 0..=6_u32 {
            for number in 0..6_usize.pow(length) {
                let text: Vec<u8> =
                    (0..length).map(|place| characters[number / 6_usize.pow(place) % 6]).collect();
                for text in [text.clone(), [b"4", &text[..]].concat(), [b"37", &text[..]].concat()] {
                    assert_eq!(Quantity::parse(&text), Quantity::parse_any(&text), "{}", text.escape_ascii());
                }
            }
        }
        for byte in 0..=255_u8 {
            for text in [[byte, b'2', b'.', b'5'], [b'1', byte, b'.', b'5'], [b'1', b'2', b'.', byte]] {
                assert_eq!(Quantity::parse(&text), Quantity::parse_any(&text), "{byte}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_good_text_has_the_value_of_the_rational_oracle(
            text in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,15})?"
        ) {
            let quantity = parse(&text).expect("matches the grammar");
            prop_assert_eq!(oracle(&quantity.to_string()), oracle(&text));
        }

        #[test]
        fn parsing_never_panics_and_accepts_only_the_grammar(text in "[-+.0-9eE ]{0,45}|[0-9]{0,9}[.0-9]{0,12}") {
            prop_assert_eq!(parse(&text), Quantity::parse_any(text.as_bytes()));
            if let Ok(quantity) = parse(&text) {
                prop_assert_eq!(oracle(&quantity.to_string()), oracle(&text));
            }
        }

        #[test]
        fn sums_are_exact_in_any_order(steps in prop::collection::vec(any::<i128>(), 0..50)) {
            let mut forward = QuantitySum::ZERO;
            steps.iter().for_each(|step| forward.add(Quantity::from_steps(*step)));
            let mut backward = QuantitySum::ZERO;
            steps.iter().rev().for_each(|step| backward.add_sum(Quantity::from_steps(*step).into()));
            let exact: BigInt = steps.iter().map(|step| BigInt::from(*step)).sum();
            prop_assert_eq!(forward, backward);
            prop_assert_eq!(forward.steps().to_string(), exact.to_string());
            prop_assert_eq!(QuantitySum::from_le_bytes(forward.to_le_bytes()), forward);
            prop_assert_eq!(QuantitySum::from_steps(forward.steps()), Some(forward));
        }
    }
}
