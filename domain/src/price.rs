//! What a unit costs and what is taken off: [`UnitPrice`] and [`Percent`], and their exact products with quantities.

use std::fmt;

use ethnum::I256;

use crate::money::{MONEY_DECIMALS, Money, MoneyError};
use crate::quantity::{QUANTITY_DECIMALS, Quantity, QuantitySum, write_decimal};

/// Decimals of a unit price.
pub const PRICE_DECIMALS: usize = 15;
/// Decimals of a percentage.
pub const PERCENT_DECIMALS: usize = 4;
/// One hundred percent in steps.
const PERCENT_STEPS_MAX: u64 = 1_000_000;

/// The price of one unit, never negative, in steps of 10^-15 of its currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct UnitPrice(i128);

/// A share of a hundred, 0 to 100, in steps of 10^-4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Percent(u64);

/// Why a text is no price or percentage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PriceError {
    /// Not a plain decimal number.
    #[error("is not a plain decimal number such as \"0.35\"")]
    Malformed,
    /// More decimals than are kept.
    #[error("has more than {0} decimals")]
    TooPrecise(usize),
    /// Below zero.
    #[error("is negative")]
    Negative,
    /// More digits before the point than fit, or above a hundred percent.
    #[error("is too large")]
    TooLarge,
}

impl UnitPrice {
    /// Free of charge.
    pub const ZERO: Self = Self(0);

    /// In steps of 10^-15.
    #[must_use]
    pub const fn steps(self) -> i128 {
        self.0
    }

    /// Reads plain decimal text with at most 15 decimals and 23 digits before the point.
    ///
    /// # Errors
    /// Says which bound the text breaks.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let quantity = parse_decimal(text, PRICE_DECIMALS)?;
        Ok(Self(quantity.steps()))
    }

    /// Quantity times price, exact.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] when it does not fit.
    pub fn cost(self, quantity: QuantitySum) -> Result<Money, MoneyError> {
        let product = quantity.steps().checked_mul(I256::from(self.0)).ok_or(MoneyError::Overflow)?;
        Money::from_scaled(product, QUANTITY_DECIMALS + PRICE_DECIMALS)
    }

    /// The price of one unit as money, which discounts can then be taken off.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] when it does not fit.
    pub fn to_money(self) -> Result<Money, MoneyError> {
        Money::from_scaled(I256::from(self.0), PRICE_DECIMALS)
    }
}

impl fmt::Display for UnitPrice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(formatter, I256::from(self.0), PRICE_DECIMALS)
    }
}

impl Percent {
    /// Reads plain decimal text from 0 to 100 with at most 4 decimals.
    ///
    /// # Errors
    /// Says which bound the text breaks.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let quantity = parse_decimal(text, PERCENT_DECIMALS)?;
        let steps = quantity.steps() / 10_i128.pow((QUANTITY_DECIMALS - PERCENT_DECIMALS) as u32);
        let steps = u64::try_from(steps).map_err(|_| PriceError::TooLarge)?;
        if steps > PERCENT_STEPS_MAX {
            return Err(PriceError::TooLarge);
        }
        Ok(Self(steps))
    }

    /// What is left of the amount when this share is taken off, exact.
    ///
    /// # Errors
    /// When it does not fit, or when more than four percentages meet and the decimals run out.
    pub fn taken_off(self, amount: Money) -> Result<Money, MoneyError> {
        amount.checked_mul_ratio(PERCENT_STEPS_MAX - self.0, PERCENT_STEPS_MAX)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(formatter, I256::from(self.0), PERCENT_DECIMALS)
    }
}

/// A number that is not negative, by the grammar of quantities, with at most `decimals` places.
fn parse_decimal(text: &str, decimals: usize) -> Result<Quantity, PriceError> {
    use crate::quantity::QuantityError;
    let quantity = Quantity::parse(text.as_bytes()).map_err(|error| match error {
        QuantityError::Malformed => PriceError::Malformed,
        QuantityError::TooPrecise => PriceError::TooPrecise(decimals),
        QuantityError::TooLarge => PriceError::TooLarge,
    })?;
    if quantity.is_negative() {
        return Err(PriceError::Negative);
    }
    let step = 10_i128.pow((QUANTITY_DECIMALS - decimals) as u32);
    if quantity.steps() % step != 0 {
        return Err(PriceError::TooPrecise(decimals));
    }
    Ok(quantity)
}

// A product of a quantity, a price and four percentages keeps every decimal.
const _: () = assert!(QUANTITY_DECIMALS + PRICE_DECIMALS + 4 * (PERCENT_DECIMALS + 2) <= MONEY_DECIMALS);

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use num_rational::BigRational;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_and_percentages_say_which_bound_they_break() {
        assert_eq!(UnitPrice::parse("0.000812").expect("good").to_string(), "0.000812");
        assert_eq!(Percent::parse("12.5000").expect("good").to_string(), "12.5");
        assert_eq!(UnitPrice::parse("-1"), Err(PriceError::Negative));
        assert_eq!(UnitPrice::parse("0.0000000000000001"), Err(PriceError::TooPrecise(15)));
        assert_eq!(UnitPrice::parse("1e3"), Err(PriceError::Malformed));
        assert_eq!(Percent::parse("0.00001"), Err(PriceError::TooPrecise(4)));
        assert_eq!(Percent::parse("100.0001"), Err(PriceError::TooLarge));
        assert!(Percent::parse("100").is_ok());
    }

    #[test]
    fn g14_a_product_that_does_not_fit_is_an_error() {
        let price = UnitPrice::parse("99999999999999999999999").expect("good");
        let quantity = Quantity::parse(b"99999999999999999999999").expect("good");
        assert_eq!(price.cost(quantity.into()), Err(MoneyError::Overflow));
    }

    proptest! {
        #[test]
        fn g14_products_with_four_discounts_are_those_of_the_rational_oracle(
            quantity in -10_i128.pow(27)..10_i128.pow(27),
            price in 0..10_i128.pow(18),
            percents in prop::collection::vec(0_u64..=1_000_000, 0..=4),
        ) {
            let quantity = Quantity::from_steps(quantity);
            let mut cost = UnitPrice(price).cost(quantity.into()).expect("fits");
            let scale = |decimals: u32| BigInt::from(10).pow(decimals);
            let mut exact = BigRational::new(BigInt::from(quantity.steps()) * BigInt::from(price), scale(30));
            for percent in percents {
                cost = Percent(percent).taken_off(cost).expect("fits");
                exact *= BigRational::new((1_000_000 - percent).into(), scale(6));
            }
            let steps: BigInt = cost.steps().to_string().parse().expect("digits");
            prop_assert_eq!(BigRational::new(steps, scale(54)), exact);
        }
    }
}
