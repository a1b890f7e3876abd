//! Writes rows of a Parquet file as JSON objects.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, civil};
use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::value::RawValue;
use std::io::{self, Write};

use crate::ingest::export::RoundTripFloat;

/// The columns whose whole numbers are written as texts, because ids are texts.
const ID_COLUMNS: [&str; 4] = ["event_id", "user_id", "session_id", "item_id"];

/// The columns whose texts are written as the JSON that they hold.
const JSON_COLUMNS: [&str; 4] = ["properties", "context", "attributes", "vectors"];

/// How the values of a field are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FieldShape {
    /// By the type of the value.
    Plain,
    /// A whole number becomes a text. Data frames store integers as floats if some are absent, and
    /// databases as decimals.
    Id,
    /// A text that holds JSON becomes this JSON.
    Json,
    /// 16 bytes.
    Uuid,
    /// An integer, in units of so many nanoseconds. Without UTC, the time has no offset.
    Timestamp {
        unit_nanos: i128,
        is_utc: bool,
    },
    /// An integer of nanoseconds since midnight.
    TimeOfDay,
    /// The shapes of the fields of a group.
    Group(Vec<Self>),
    List(Box<Self>),
    Map(Box<[Self; 2]>),
}

impl FieldShape {
    /// The shape of a row.
    pub(super) fn of_schema(root: &Type) -> Self {
        let shape = |field: &Type| match Self::of_field(field) {
            Self::Plain if ID_COLUMNS.contains(&field.name()) => Self::Id,
            Self::Plain if JSON_COLUMNS.contains(&field.name()) => Self::Json,
            shape => shape,
        };
        Self::Group(root.get_fields().iter().map(|field| shape(field)).collect())
    }

    /// The shape of a field. It follows the rules by which the crate `parquet` builds values.
    fn of_field(field: &Type) -> Self {
        let (converted, is_repeated) = (field.get_basic_info().converted_type(), is_repeated(field));
        let fields = if field.is_group() { field.get_fields() } else { &[] };
        let list = |element: Self| Self::List(Box::new(element));
        match (converted, fields) {
            (_, []) if is_repeated => list(Self::of_primitive(field)),
            (_, []) => Self::of_primitive(field),
            (ConvertedType::LIST, [repeated]) if is_list_element(repeated) => match Self::of_field(repeated) {
                // The repetition of the element is that of the list.
                Self::List(element) => Self::List(element),
                element => list(element),
            },
            (ConvertedType::LIST, [repeated]) => {
                list(repeated.get_fields().first().map_or(Self::Plain, |element| Self::of_field(element)))
            }
            (ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE, [entry]) if entry.is_group() => {
                match entry.get_fields() {
                    [key, value] => Self::Map(Box::new([Self::of_field(key), Self::of_field(value)])),
                    [key] => list(Self::of_field(key)),
                    _ => Self::Plain,
                }
            }
            _ => {
                let group = Self::Group(fields.iter().map(|field| Self::of_field(field)).collect());
                if is_repeated { list(group) } else { group }
            }
        }
    }

    fn of_primitive(field: &Type) -> Self {
        let info = field.get_basic_info();
        match (info.logical_type_ref(), info.converted_type()) {
            (Some(LogicalType::Timestamp(timestamp)), _) => {
                Self::Timestamp { unit_nanos: unit_nanos(&timestamp.unit), is_utc: timestamp.is_adjusted_to_u_t_c }
            }
            (Some(LogicalType::Time(time)), _) if time.unit == TimeUnit::NANOS => Self::TimeOfDay,
            (Some(LogicalType::Uuid), _) => Self::Uuid,
            (Some(LogicalType::Json), _) | (_, ConvertedType::JSON) => Self::Json,
            _ => Self::Plain,
        }
    }
}

fn unit_nanos(unit: &TimeUnit) -> i128 {
    match unit {
        TimeUnit::MILLIS => 1_000_000,
        TimeUnit::MICROS => 1_000,
        TimeUnit::NANOS => 1,
    }
}

fn is_repeated(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

/// Whether the repeated field of a list is the element itself. Old writers omit the group between
/// the list and its elements.
fn is_list_element(repeated: &Type) -> bool {
    if repeated.is_primitive() {
        return true;
    }
    let is_nested_list = repeated.get_basic_info().converted_type() == ConvertedType::LIST
        || matches!(repeated.get_fields(), [only] if is_repeated(only));
    !is_nested_list
        && (repeated.get_fields().len() > 1 || repeated.name() == "array" || repeated.name().ends_with("_tuple"))
}

/// Appends a row of the file as a line with a JSON object. Empty fields are left out, except an empty
/// `timestamp`: it is an error, because without the field the event would happen now.
pub(super) fn write_line(line: &mut Vec<u8>, row: &Row, shape: &FieldShape) -> io::Result<()> {
    write_row(line, row, shape)?;
    if row.get_column_iter().any(|(name, field)| name == "timestamp" && is_absent(field)) {
        line.pop();
        let separator: &[u8] = if line.ends_with(b"{") { b"" } else { b"," };
        line.extend_from_slice(separator);
        line.extend_from_slice(br#""timestamp":""}"#);
    }
    line.push(b'\n');
    Ok(())
}

/// Appends a row or a group as a JSON object. Empty fields are left out.
fn write_row(line: &mut Vec<u8>, row: &Row, shape: &FieldShape) -> io::Result<()> {
    let shapes = if let FieldShape::Group(shapes) = shape { shapes.as_slice() } else { &[] };
    line.push(b'{');
    let mut separator: &[u8] = b"";
    for (index, (name, field)) in row.get_column_iter().enumerate() {
        if is_absent(field) {
            continue;
        }
        line.extend_from_slice(std::mem::replace(&mut separator, b","));
        serde_json::to_writer(&mut *line, name)?;
        line.push(b':');
        write_field(line, field, shapes.get(index).unwrap_or(&FieldShape::Plain))?;
    }
    line.push(b'}');
    Ok(())
}

/// Whether a field has no value. Data frames use NaN for absent values.
fn is_absent(field: &Field) -> bool {
    match field {
        Field::Null => true,
        Field::Float16(value) => value.is_nan(),
        Field::Float(value) => value.is_nan(),
        Field::Double(value) => value.is_nan(),
        _ => false,
    }
}

fn write_field(line: &mut Vec<u8>, field: &Field, shape: &FieldShape) -> io::Result<()> {
    match field {
        Field::Null => line.extend_from_slice(b"null"),
        Field::Bool(value) => write!(line, "{value}")?,
        Field::Byte(value) => write_integer(line, (*value).into(), shape)?,
        Field::Short(value) => write_integer(line, (*value).into(), shape)?,
        Field::Int(value) => write_integer(line, (*value).into(), shape)?,
        Field::UByte(value) => write_integer(line, (*value).into(), shape)?,
        Field::UShort(value) => write_integer(line, (*value).into(), shape)?,
        Field::UInt(value) => write_integer(line, (*value).into(), shape)?,
        Field::ULong(value) => write_integer(line, (*value).into(), shape)?,
        Field::Long(value) | Field::TimestampMillis(value) | Field::TimestampMicros(value) => {
            // Old writers state the unit of a timestamp in another way; it is always in UTC.
            let legacy = match field {
                Field::TimestampMillis(_) => FieldShape::Timestamp { unit_nanos: 1_000_000, is_utc: true },
                Field::TimestampMicros(_) => FieldShape::Timestamp { unit_nanos: 1_000, is_utc: true },
                _ => FieldShape::Plain,
            };
            let is_timestamp = matches!(shape, FieldShape::Timestamp { .. }) || legacy == FieldShape::Plain;
            write_integer(line, (*value).into(), if is_timestamp { shape } else { &legacy })?;
        }
        Field::Float16(value) => write_float(line, value.to_f32().into(), value.to_f32())?,
        Field::Double(value) if *shape == FieldShape::Id && is_whole(*value, f64::MANTISSA_DIGITS) => {
            write_integer(line, *value as i128, shape)?;
        }
        Field::Float(value) if *shape == FieldShape::Id && is_whole((*value).into(), f32::MANTISSA_DIGITS) => {
            write_integer(line, *value as i128, shape)?;
        }
        Field::Float(value) => write_float(line, (*value).into(), RoundTripFloat::new(*value))?,
        Field::Double(value) => write_float(line, *value, value)?,
        Field::Decimal(_) => write_decimal(line, &field.to_string(), shape)?,
        Field::Str(text) => write_text(line, text, shape)?,
        Field::Bytes(bytes) => write_bytes(line, bytes.data(), shape)?,
        Field::Date(days) => {
            let date = time_since_1970(i128::from(*days) * 86_400_000_000_000).map(|at| at.date());
            write_time(line, date, (*days).into(), "")?;
        }
        Field::TimeMillis(value) => write_time_of_day(line, i128::from(*value) * 1_000_000)?,
        Field::TimeMicros(value) => write_time_of_day(line, i128::from(*value) * 1_000)?,
        Field::Group(row) => write_row(line, row, shape)?,
        Field::ListInternal(list) => {
            let element = if let FieldShape::List(element) = shape { element } else { &FieldShape::Plain };
            line.push(b'[');
            let mut separator: &[u8] = b"";
            for value in list.elements() {
                line.extend_from_slice(std::mem::replace(&mut separator, b","));
                write_field(line, value, element)?;
            }
            line.push(b']');
        }
        Field::MapInternal(map) => write_map(line, map.entries(), shape)?,
    }
    Ok(())
}

/// Writes a map as an object. Keys that are no texts are written as the text of their JSON.
fn write_map(line: &mut Vec<u8>, entries: &[(Field, Field)], shape: &FieldShape) -> io::Result<()> {
    let plain = [FieldShape::Plain, FieldShape::Plain];
    let [key_shape, value_shape] = if let FieldShape::Map(shapes) = shape { shapes.as_ref() } else { &plain };
    line.push(b'{');
    let mut separator: &[u8] = b"";
    for (key, value) in entries {
        line.extend_from_slice(std::mem::replace(&mut separator, b","));
        let mut text = Vec::new();
        write_field(&mut text, key, key_shape)?;
        if text.starts_with(b"\"") {
            line.extend_from_slice(&text);
        } else {
            serde_json::to_writer(&mut *line, &String::from_utf8_lossy(&text))?;
        }
        line.push(b':');
        write_field(line, value, value_shape)?;
    }
    line.push(b'}');
    Ok(())
}

fn write_integer(line: &mut Vec<u8>, value: i128, shape: &FieldShape) -> io::Result<()> {
    match shape {
        FieldShape::Id => write!(line, "\"{value}\""),
        FieldShape::Timestamp { unit_nanos, is_utc } => {
            write_time(line, time_since_1970(value * unit_nanos), value, if *is_utc { "Z" } else { "" })
        }
        FieldShape::TimeOfDay => write_time_of_day(line, value),
        _ => write!(line, "{value}"),
    }
}

/// Whether a float is an integer, and no other integer is stored as this float of `digits` binary
/// digits.
fn is_whole(value: f64, digits: u32) -> bool {
    value.fract() == 0.0 && value.abs() < f64::from(digits).exp2()
}

/// Writes a decimal, which is given as text, such as `5.` or `-12.30`.
fn write_decimal(line: &mut Vec<u8>, text: &str, shape: &FieldShape) -> io::Result<()> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if *shape == FieldShape::Id && fraction.bytes().all(|digit| digit == b'0') {
        write!(line, "\"{whole}\"")
    } else {
        line.write_all(text.trim_end_matches('.').as_bytes())
    }
}

/// The date and time so many nanoseconds after 1970, without a time zone; `None` if it is out of the
/// range of the years -9999 to 9999.
fn time_since_1970(nanos: i128) -> Option<civil::DateTime> {
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let duration = SignedDuration::new(i64::try_from(seconds).ok()?, i32::try_from(rest).ok()?);
    civil::date(1970, 1, 1).at(0, 0, 0, 0).checked_add(duration).ok()
}

/// Writes a time as text. A time that no calendar has is written so that no reader takes it for one.
fn write_time(line: &mut Vec<u8>, time: Option<impl std::fmt::Display>, value: i128, zone: &str) -> io::Result<()> {
    match time {
        Some(time) => write!(line, "\"{time}{zone}\""),
        None => write!(line, "\"{value} is out of range\""),
    }
}

fn write_time_of_day(line: &mut Vec<u8>, nanos: i128) -> io::Result<()> {
    write_time(line, time_since_1970(nanos).map(|at| at.time()), nanos, "")
}

/// Writes a number. JSON has neither NaN nor infinite numbers.
fn write_float(line: &mut Vec<u8>, value: f64, number: impl serde::Serialize + Copy) -> io::Result<()> {
    if value.is_nan() {
        line.extend_from_slice(b"null");
    } else if value.is_infinite() {
        write!(line, "\"{value}\"")?;
    } else {
        serde_json::to_writer(&mut *line, &number)?;
    }
    Ok(())
}

fn write_text(line: &mut Vec<u8>, text: &str, shape: &FieldShape) -> io::Result<()> {
    if *shape == FieldShape::Json && serde_json::from_str::<&RawValue>(text).is_ok() {
        // JSON allows line ends only between tokens, so a space can replace each of them.
        line.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        return Ok(());
    }
    Ok(serde_json::to_writer(line, text)?)
}

/// Writes bytes as a text: a UUID, the text itself if it is UTF-8, otherwise base64.
fn write_bytes(line: &mut Vec<u8>, bytes: &[u8], shape: &FieldShape) -> io::Result<()> {
    if let (FieldShape::Uuid, Ok(bytes)) = (shape, <[u8; 16]>::try_from(bytes)) {
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        let part = |start: usize, end: usize| hex.get(start..end).unwrap_or_default();
        return write!(line, "\"{}-{}-{}-{}-{}\"", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => write_text(line, text, shape),
        Err(_) => write_text(line, &BASE64_STANDARD.encode(bytes), &FieldShape::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn a_float_that_stands_for_several_integers_is_not_whole() {
        let whole = [(42.0, 53), (-7.0, 24), (16_777_215.0, 24), (9_007_199_254_740_991.0, 53)];
        assert!(whole.iter().all(|(value, digits)| is_whole(*value, *digits)));
        let other = [(2.5, 53), (16_777_216.0, 24), (9_007_199_254_740_992.0, 53), (f64::INFINITY, 53), (f64::NAN, 24)];
        assert!(!other.iter().any(|(value, digits)| is_whole(*value, *digits)));
    }
}
