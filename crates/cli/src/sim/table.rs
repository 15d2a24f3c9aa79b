//! Figures as rows of a table: every single count a column, as CSV or Parquet.
//!
//! A [`Row`] is a JSON object with the paths to its values as names: `harts.0.tlb.load.walks`. A table has the columns
//! of all its rows, in order of their names; where a row has none there is no value.

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

/// Values by their paths; no object and no list among them.
pub(crate) type Row = BTreeMap<String, Value>;

/// The single values of `value`, by their paths.
pub(crate) fn flatten(value: &Value) -> Row {
    let mut row = Row::new();
    flatten_into("", value, &mut row);
    row
}

fn flatten_into(prefix: &str, value: &Value, row: &mut Row) {
    let inside =
        |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| flatten_into(&inside(key), value, row));
        }
        Value::Array(list) => {
            (0_u32..)
                .zip(list)
                .for_each(|(i, value)| flatten_into(&inside(&i.to_string()), value, row));
        }
        single => drop(row.insert(prefix.to_owned(), single.clone())),
    }
}

fn columns(rows: &[Row]) -> BTreeSet<&str> {
    rows.iter().flat_map(BTreeMap::keys).map(String::as_str).collect()
}

/// A line of names, then one a row (RFC 4180).
pub(crate) fn csv(rows: &[Row]) -> String {
    let columns = columns(rows);
    let mut text = columns.iter().copied().collect::<Vec<_>>().join(",");
    text.push('\n');
    for row in rows {
        let field = |name: &&str| match row.get(*name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => format!("\"{}\"", text.replace('"', "\"\"")),
            Some(other) => other.to_string(),
        };
        text += &columns.iter().map(field).collect::<Vec<_>>().join(",");
        text.push('\n');
    }
    text
}

/// What a column's values are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Double,
    Text,
}

impl Kind {
    /// The narrowest that has room for every value.
    fn of<'v>(values: impl Iterator<Item = &'v Value>) -> Self {
        let mut kind = Self::Integer;
        for value in values {
            match value {
                Value::Null => (),
                Value::Number(number) if number.as_i64().is_some() => (),
                Value::Number(_) => kind = Self::Double,
                _ => return Self::Text,
            }
        }
        kind
    }

    fn column(self, name: &str) -> Result<Arc<Type>, ParquetError> {
        let (physical, converted) = match self {
            Self::Integer => (Physical::INT64, ConvertedType::NONE),
            Self::Double => (Physical::DOUBLE, ConvertedType::NONE),
            Self::Text => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
        };
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_converted_type(converted)
            .build()
            .map(Arc::new)
    }
}

/// Writes the rows as Apache Parquet: one row group, every column optional.
///
/// # Errors
/// Those of `output`.
pub(crate) fn write_parquet(rows: &[Row], output: impl Write + Send) -> Result<(), ParquetError> {
    let columns: Vec<(&str, Kind)> = columns(rows)
        .into_iter()
        .map(|name| (name, Kind::of(rows.iter().filter_map(|row| row.get(name)))))
        .collect();
    let fields =
        columns.iter().map(|(name, kind)| kind.column(name)).collect::<Result<Vec<_>, _>>()?;
    let schema = Type::group_type_builder("figures").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_created_by("kilburn".to_owned()).build();
    let mut writer = SerializedFileWriter::new(output, Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (name, kind) in columns {
        let values = || rows.iter().map(|row| row.get(name).filter(|value| !value.is_null()));
        match kind {
            Kind::Integer => {
                let read = |value: &Value| value.as_i64().unwrap_or_default();
                write_column::<Int64Type>(&mut group, values().map(|value| value.map(read)))?;
            }
            Kind::Double => {
                let read = |value: &Value| value.as_f64().unwrap_or_default();
                write_column::<DoubleType>(&mut group, values().map(|value| value.map(read)))?;
            }
            Kind::Text => {
                let read = |value: &Value| match value {
                    Value::String(text) => ByteArray::from(text.as_str()),
                    other => ByteArray::from(other.to_string().into_bytes()),
                };
                write_column::<ByteArrayType>(&mut group, values().map(|value| value.map(read)))?;
            }
        }
    }
    group.close()?;
    writer.close().map(drop)
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut present, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    let mut column =
        group.next_column()?.ok_or_else(|| ParquetError::General("a column too many".into()))?;
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;
    use serde_json::json;

    fn rows() -> Vec<Row> {
        let one =
            json!({ "trace": "a \"b\"", "harts": [{ "walks": 7 }], "per": 0.5, "error": null });
        vec![flatten(&one), flatten(&json!({ "trace": "c", "per": 1, "more": [1, 2] }))]
    }

    #[test]
    fn csv_has_the_columns_of_all_rows() {
        let lines = csv(&rows());
        assert_eq!(
            lines,
            "error,harts.0.walks,more.0,more.1,per,trace\n,7,,,0.5,\"a \"\"b\"\"\"\n,,1,2,1,\"c\"\n"
        );
    }

    #[test]
    fn parquet_is_read_back_with_its_types() {
        let file = tempfile::tempfile().expect("a file");
        write_parquet(&rows(), &file).expect("it takes everything");
        let reader = SerializedFileReader::new(file).expect("a Parquet file");
        let read: Vec<BTreeMap<String, Field>> = reader
            .get_row_iter(None)
            .expect("rows")
            .map(|row| row.expect("a row").into_columns().into_iter().collect())
            .collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0]["harts.0.walks"], Field::Long(7));
        assert_eq!(read[0]["per"], Field::Double(0.5));
        assert_eq!(read[1]["per"], Field::Double(1.0));
        assert_eq!(read[0]["trace"], Field::Str("a \"b\"".into()));
        assert_eq!((&read[0]["error"], &read[1]["harts.0.walks"]), (&Field::Null, &Field::Null));
    }
}
