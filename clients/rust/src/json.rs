//! JSON of arguments. serde_json writes `null` for a number that is not finite; here, it is an error.

use serde::Serialize;
use serde::ser::{self, Serializer};
use serde_json::Value;
use std::fmt::{self, Display, Write as _};

use crate::error::SequorError;

/// The JSON text of an argument.
///
/// # Errors
/// [`SequorError::InvalidArgument`] if the argument has no JSON form, or has a number that is not
/// finite.
pub(crate) fn encode(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, SequorError> {
    let mut check = FiniteCheck { path: String::new() };
    if let Err(CheckError::NotFinite(number)) = value.serialize(&mut check) {
        let name = if check.path.is_empty() { "the argument".to_owned() } else { format!("`{}`", check.path) };
        return Err(SequorError::invalid(format!("{name} is {number}; it must be a finite number")));
    }
    serde_json::to_vec(value).map_err(|error| SequorError::invalid(format!("the argument has no JSON form: {error}")))
}

/// A serializer that writes nothing. It fails at the first number that is not finite; `path` is then
/// the place of the number.
struct FiniteCheck {
    path: String,
}

#[derive(Debug)]
enum CheckError {
    NotFinite(f64),
    /// The value cannot be serialized; serde_json reports why.
    Other,
}

impl Display for CheckError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the value cannot be serialized")
    }
}

impl std::error::Error for CheckError {}

impl ser::Error for CheckError {
    fn custom<T: Display>(_: T) -> Self {
        Self::Other
    }
}

/// Methods for values that contain no number that matters.
macro_rules! accept {
    ($($method:ident($($argument:ty),*);)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<(), CheckError> { Ok(()) })*
    };
}

/// Methods that open a list or an object.
macro_rules! open {
    ($($method:ident($($argument:ty),*) -> $compound:ident;)*) => {
        $(
            type $compound = Members<'c>;
            fn $method(self, $(_: $argument),*) -> Result<Members<'c>, CheckError> {
                Ok(Members { check: self, index: 0, key: String::new() })
            }
        )*
    };
}

impl<'c> Serializer for &'c mut FiniteCheck {
    type Ok = ();
    type Error = CheckError;

    accept! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    open! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }

    fn serialize_f32(self, number: f32) -> Result<(), CheckError> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), CheckError> {
        if number.is_finite() { Ok(()) } else { Err(CheckError::NotFinite(number)) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CheckError> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), CheckError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), CheckError> {
        value.serialize(self)
    }
}

/// The elements of a list, or the members of an object.
struct Members<'c> {
    check: &'c mut FiniteCheck,
    /// The index of the next element.
    index: usize,
    /// The name of the next member of a map.
    key: String,
}

impl Members<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CheckError> {
        let length = self.check.path.len();
        let _ = write!(self.check.path, "[{}]", self.index);
        self.index += 1;
        self.checked(value, length)
    }

    fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), CheckError> {
        let length = self.check.path.len();
        if length > 0 {
            self.check.path.push('.');
        }
        self.check.path.push_str(name);
        self.checked(value, length)
    }

    /// Checks a value. If it is valid, the path gets its earlier length.
    fn checked<T: Serialize + ?Sized>(&mut self, value: &T, length: usize) -> Result<(), CheckError> {
        value.serialize(&mut *self.check)?;
        self.check.path.truncate(length);
        Ok(())
    }
}

/// Traits whose values are elements of a list.
macro_rules! elements {
    ($($name:ident::$method:ident;)*) => {
        $(impl ser::$name for Members<'_> {
            type Ok = ();
            type Error = CheckError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CheckError> {
                self.element(value)
            }

            fn end(self) -> Result<(), CheckError> {
                Ok(())
            }
        })*
    };
}

elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

/// Traits whose values are members of an object.
macro_rules! members {
    ($($name:ident;)*) => {
        $(impl ser::$name for Members<'_> {
            type Ok = ();
            type Error = CheckError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), CheckError> {
                self.member(name, value)
            }

            fn end(self) -> Result<(), CheckError> {
                Ok(())
            }
        })*
    };
}

members! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Members<'_> {
    type Ok = ();
    type Error = CheckError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CheckError> {
        self.key = match serde_json::to_value(key) {
            Ok(Value::String(name)) => name,
            Ok(other) => other.to_string(),
            Err(_) => return Err(CheckError::Other),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CheckError> {
        let name = std::mem::take(&mut self.key);
        self.member(&name, value)
    }

    fn end(self) -> Result<(), CheckError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Pair(f64, f32);

    #[derive(Serialize)]
    struct Wrapped(f64);

    #[derive(Serialize)]
    enum Kind {
        New(f64),
        Tuple(i32, f64),
        Struct { size: f64 },
    }

    #[derive(Serialize)]
    struct Rest {
        name: Option<&'static str>,
        #[serde(flatten)]
        further: BTreeMap<&'static str, Option<f64>>,
    }

    fn refusal(value: &impl Serialize) -> String {
        encode(value).unwrap_err().to_string()
    }

    fn rest(further: Option<f64>) -> Rest {
        Rest { name: None, further: [("price", further)].into() }
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_everywhere() {
        let must = "it must be a finite number";
        assert_eq!(refusal(&f64::NAN), format!("the argument is NaN; {must}"));
        assert_eq!(refusal(&Wrapped(f64::INFINITY)), format!("the argument is inf; {must}"));
        assert_eq!(refusal(&[0.0, f64::NAN]), format!("`[1]` is NaN; {must}"));
        assert_eq!(refusal(&Pair(0.0, f32::NEG_INFINITY)), format!("`[1]` is -inf; {must}"));
        assert_eq!(refusal(&(1, "a", f32::NAN)), format!("`[2]` is NaN; {must}"));
        assert_eq!(refusal(&Kind::New(f64::NAN)), format!("the argument is NaN; {must}"));
        assert_eq!(refusal(&Kind::Tuple(1, f64::NAN)), format!("`[1]` is NaN; {must}"));
        assert_eq!(refusal(&Kind::Struct { size: f64::NAN }), format!("`size` is NaN; {must}"));
        assert_eq!(refusal(&rest(Some(f64::NAN))), format!("`price` is NaN; {must}"));
        assert_eq!(refusal(&BTreeMap::from([(7, [[1.0], [f64::NAN]])])), format!("`7[1][0]` is NaN; {must}"));
    }

    #[test]
    fn other_values_are_encoded_by_serde_json() {
        fn check(value: &impl Serialize) {
            assert_eq!(encode(value).unwrap(), serde_json::to_vec(value).unwrap());
        }
        check(&rest(None));
        check(&rest(Some(-0.5)));
        check(&[Kind::New(1.5), Kind::Tuple(1, 2.0), Kind::Struct { size: f64::MAX }]);
        check(&(Pair(1.0, 2.0), Wrapped(0.0), 'c', "text", true, (), i128::MAX, Some(1_u8)));
        check(&serde_json::json!({ "a": [1, null, { "b": "c" }] }));
        assert!(refusal(&BTreeMap::from([((1, 2), 3)])).starts_with("the argument has no JSON form: key must be"));
    }
}
