//! Every transfer with every column, typed: ids are UUIDs, times microseconds of UTC, amounts DECIMAL(28, 0) of minor units.
//! Uncompressed: a codec would be another dependency, and the columns' dictionaries do most of what it could.

use std::io::Write;
use std::pin::pin;
use std::sync::Arc;

use ::parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use proto::money::Amount;
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::rows::{self, Transfer};
use super::{ExportError, Period, Written};

/// Transfers that are in memory at a time: a row group.
const GROUP: usize = 32_768;

/// The columns, in the order in which [`write_group`] writes them.
const SCHEMA: &str = "message transfers {
  required int32 ledger_id;
  required int64 seq;
  required int32 item;
  required int64 at (TIMESTAMP(MICROS,true));
  optional int64 effective_at (TIMESTAMP(MICROS,true));
  required fixed_len_byte_array(16) transfer_id (UUID);
  required binary kind (STRING);
  required boolean balancing_debit;
  required boolean balancing_credit;
  required boolean closing_debit;
  required boolean closing_credit;
  required fixed_len_byte_array(16) debit_account_id (UUID);
  required binary debit_account (STRING);
  required fixed_len_byte_array(16) credit_account_id (UUID);
  required binary credit_account (STRING);
  required binary asset (STRING);
  required int32 scale;
  required fixed_len_byte_array(12) amount_minor (DECIMAL(28,0));
  optional fixed_len_byte_array(16) pending_id (UUID);
  optional int64 timeout_at (TIMESTAMP(MICROS,true));
  required fixed_len_byte_array(16) journal_id (UUID);
  optional fixed_len_byte_array(16) reverses_id (UUID);
  required binary reason (STRING);
}";

pub(super) async fn write(
    snapshot: &Transaction<'_>,
    period: &Period,
    out: &mut (dyn Write + Send),
) -> Result<Written, ExportError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let said = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let moment = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![
            said("econ.from", moment(period.from)),
            said("econ.to", moment(period.to)),
            said("econ.by", period.by.name().to_owned()),
        ]))
        .build();
    let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let mut written = Written::default();
    let mut transfers = pin!(rows::transfers(snapshot, period, false).await?);
    let mut group = Vec::with_capacity(GROUP);
    while let Some(transfer) = transfers.try_next().await? {
        written.transfers += 1;
        group.push(transfer);
        if group.len() == GROUP {
            write_group(&mut file, period.ledger_id, &group)?;
            group.clear();
        }
    }
    if !group.is_empty() {
        write_group(&mut file, period.ledger_id, &group)?;
    }
    file.close()?;
    Ok(written)
}

fn write_group<W: Write + Send>(
    file: &mut SerializedFileWriter<W>,
    ledger_id: i32,
    rows: &[Transfer],
) -> Result<(), ParquetError> {
    let mut group = Columns { group: file.next_row_group()?, rows };
    group.int32(|_| ledger_id)?;
    group.int64(|t| t.seq)?;
    group.int32(|t| t.item)?;
    group.int64(|t| t.at.as_microsecond())?;
    group.moment(|t| t.effective_at)?;
    group.id(|t| t.transfer_id)?;
    group.text(|t| t.kind.clone())?;
    group.boolean(|t| t.balancing_debit)?;
    group.boolean(|t| t.balancing_credit)?;
    group.boolean(|t| t.closing_debit)?;
    group.boolean(|t| t.closing_credit)?;
    group.id(|t| t.debit_account_id)?;
    group.text(|t| t.debit.plain_name())?;
    group.id(|t| t.credit_account_id)?;
    group.text(|t| t.credit.plain_name())?;
    group.text(|t| t.asset.clone())?;
    group.int32(|t| i32::from(t.scale))?;
    group.amount(|t| t.amount)?;
    group.id_or_none(|t| t.pending_id)?;
    group.moment(|t| t.timeout_at)?;
    group.id(|t| t.journal_id)?;
    group.id_or_none(|t| t.reverses_id)?;
    group.text(|t| t.reason.clone())?;
    group.group.close().map(drop)
}

/// A row group, written column by column from its rows.
struct Columns<'a, W: Write> {
    group: SerializedRowGroupWriter<'a, W>,
    rows: &'a [Transfer],
}

impl<W: Write + Send> Columns<'_, W> {
    /// Writes the next column; `levels` says for each row whether there is a value, for a column where there may be none.
    fn next<T: ::parquet::data_type::DataType>(
        &mut self,
        values: &[T::T],
        levels: Option<&[i16]>,
    ) -> Result<(), ParquetError> {
        let column = self.group.next_column()?;
        let mut column =
            column.ok_or_else(|| ParquetError::General("there are fewer columns than values".into()))?;
        column.typed::<T>().write_batch(values, levels, None)?;
        column.close()
    }

    fn int32(&mut self, of: impl Fn(&Transfer) -> i32) -> Result<(), ParquetError> {
        let values: Vec<i32> = self.rows.iter().map(of).collect();
        self.next::<Int32Type>(&values, None)
    }

    fn int64(&mut self, of: impl Fn(&Transfer) -> i64) -> Result<(), ParquetError> {
        let values: Vec<i64> = self.rows.iter().map(of).collect();
        self.next::<Int64Type>(&values, None)
    }

    fn boolean(&mut self, of: impl Fn(&Transfer) -> bool) -> Result<(), ParquetError> {
        let values: Vec<bool> = self.rows.iter().map(of).collect();
        self.next::<BoolType>(&values, None)
    }

    fn text(&mut self, of: impl Fn(&Transfer) -> String) -> Result<(), ParquetError> {
        let values: Vec<ByteArray> = self.rows.iter().map(|row| of(row).into_bytes().into()).collect();
        self.next::<ByteArrayType>(&values, None)
    }

    fn id(&mut self, of: impl Fn(&Transfer) -> Uuid) -> Result<(), ParquetError> {
        let values: Vec<FixedLenByteArray> = self.rows.iter().map(|row| fixed(of(row).as_bytes())).collect();
        self.next::<FixedLenByteArrayType>(&values, None)
    }

    fn amount(&mut self, of: impl Fn(&Transfer) -> Amount) -> Result<(), ParquetError> {
        // Two's complement, big-endian; 28 digits and a sign fit into twelve bytes.
        let value = |row: &Transfer| fixed(&of(row).as_u128().to_be_bytes()[4..]);
        let values: Vec<FixedLenByteArray> = self.rows.iter().map(value).collect();
        self.next::<FixedLenByteArrayType>(&values, None)
    }

    fn id_or_none(&mut self, of: impl Fn(&Transfer) -> Option<Uuid>) -> Result<(), ParquetError> {
        let levels: Vec<i16> = self.rows.iter().map(|row| i16::from(of(row).is_some())).collect();
        let values: Vec<FixedLenByteArray> =
            self.rows.iter().filter_map(&of).map(|id| fixed(id.as_bytes())).collect();
        self.next::<FixedLenByteArrayType>(&values, Some(&levels))
    }

    fn moment(&mut self, of: impl Fn(&Transfer) -> Option<Timestamp>) -> Result<(), ParquetError> {
        let levels: Vec<i16> = self.rows.iter().map(|row| i16::from(of(row).is_some())).collect();
        let values: Vec<i64> = self.rows.iter().filter_map(&of).map(Timestamp::as_microsecond).collect();
        self.next::<Int64Type>(&values, Some(&levels))
    }
}

fn fixed(bytes: &[u8]) -> FixedLenByteArray {
    ByteArray::from(bytes.to_vec()).into()
}
