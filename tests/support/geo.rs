//! Small geo databases with known contents, one file a family, as ip-location-db writes them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde::Serialize;

/// One network and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) network: IpNetwork,
    pub(crate) record: Record,
}

/// A flat record; what is absent is not written.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latitude: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) longitude: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) autonomous_system_number: Option<u32>,
}

/// Writes `NAME-ipv4.mmdb` and `NAME-ipv6.mmdb` into a folder, each only if it has a row.
pub(crate) fn write(folder: &Path, name: &str, rows: &[Row]) {
    write_built(folder, name, rows, 1_780_000_000);
}

/// The same, built at a time in seconds since 1970.
pub(crate) fn write_built(folder: &Path, name: &str, rows: &[Row], build_epoch: u64) {
    let (v4, v6): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.network.is_ipv4());
    for (rows, version, suffix) in [(v4, IpVersion::V4, "ipv4"), (v6, IpVersion::V6, "ipv6")] {
        if rows.is_empty() {
            continue;
        }
        let mut database = Database::default();
        database.metadata.binary_format_major_version = 2;
        database.metadata.ip_version = version;
        database.metadata.database_type = "test".to_owned();
        database.metadata.build_epoch = build_epoch;
        // The writer does not split networks: the wider goes in before what lies within it.
        let by_length: BTreeMap<(u8, IpAddr), &Row> =
            rows.into_iter().map(|row| ((row.network.prefix(), row.network.ip()), row)).collect();
        for row in by_length.into_values() {
            let record = database.insert_value(&row.record).expect("a record is written");
            database.insert_node(IpAddrWithMask::new(row.network.ip(), row.network.prefix()), record);
        }
        let path = folder.join(format!("{name}-{suffix}.mmdb"));
        let beside = path.with_extension("new");
        let file = std::fs::File::create(&beside).expect("the folder can be written");
        database.write_to(std::io::BufWriter::new(file)).expect("the database is written");
        std::fs::rename(beside, path).expect("it is renamed");
    }
}
