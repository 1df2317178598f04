//! A Cassandra that demands a password and TLS: who may in, and what everyone else is told.

mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pulso_platform::store::cql::{CqlSettings, CqlStore, schema};
use pulso_platform::store::{Cell, Flush, Flushed, Key, Store, StoreError, Table};
use servers::{Plan, Servers};

const STORE_PASSWORD: &str = "pulso-store";
const SOON: Duration = Duration::from_secs(60);

fn keytool(folder: &Path, arguments: &[&str]) {
    let java = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/keytool"));
    let done = Command::new(java.unwrap_or_else(|| "keytool".into()))
        .current_dir(folder)
        .args(arguments)
        .args(["-storetype", "PKCS12", "-storepass", STORE_PASSWORD])
        .output()
        .expect("keytool comes with Java");
    assert!(done.status.success(), "keytool {arguments:?}: {}", String::from_utf8_lossy(&done.stdout));
}

/// An authority that signs a certificate for 127.0.0.1, as `NAME.p12` and `NAME.pem`.
fn make_certificates(folder: &Path, name: &str) {
    let store = format!("{name}.p12");
    let key = |alias: &str, subject: &str, more: &[&str]| {
        let fixed = ["-genkeypair", "-keystore", &store, "-alias", alias, "-dname", subject];
        let kind = ["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30"];
        keytool(folder, &[&fixed[..], &kind, more].concat());
    };
    key("authority", "CN=authority", &["-ext", "bc:c=ca:true"]);
    key("node", "CN=node", &[]);
    let [request, signed, authority] = ["csr", "signed", "pem"].map(|end| format!("{name}.{end}"));
    keytool(folder, &["-certreq", "-keystore", &store, "-alias", "node", "-file", &request]);
    let sign = ["-gencert", "-keystore", &store, "-alias", "authority", "-rfc"];
    let names = ["-ext", "san=ip:127.0.0.1", "-infile", &request, "-outfile", &signed];
    keytool(folder, &[&sign[..], &names].concat());
    keytool(
        folder,
        &["-exportcert", "-keystore", &store, "-alias", "authority", "-rfc", "-file", &authority],
    );
    keytool(folder, &["-importcert", "-keystore", &store, "-alias", "node", "-file", &signed, "-noprompt"]);
}

fn start(folder: &Path) -> Servers {
    let extra = format!(
        "authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\nclient_encryption_options:\n  enabled: true\n  \
         optional: false\n  keystore: {}\n  keystore_password: {STORE_PASSWORD}\n  store_type: PKCS12\n",
        folder.join("good.p12").display()
    );
    Servers::start(Plan { name: "pulso-cass-access", nodes: 1, extra })
}

/// The role that a fresh Cassandra has is made a moment after it serves.
fn wait_for_role(settings: &CqlSettings) {
    let begun = Instant::now();
    while let Err(error) = schema::init(settings, 1) {
        assert!(begun.elapsed() < SOON, "{error}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn refused(settings: &CqlSettings, mend: &str) {
    let error = CqlStore::open(settings).expect_err("must not open");
    assert!(error.to_string().contains(mend), "{error}");
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
}

#[test]
fn passwords_and_tls_are_demanded_given_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(folder.path(), "good");
    make_certificates(folder.path(), "other");
    let servers = start(folder.path());
    let mut good = CqlSettings::new(&[&servers.address()], "pulso_access");
    good.cql_user = Some("cassandra".to_owned());
    good.cql_password = Some("cassandra".into());
    good.cql_ca = Some(folder.path().join("good.pem"));
    good.validate().expect("good settings");
    wait_for_role(&good);

    let store = CqlStore::open(&good).expect("the store opens");
    let row = (Key::new(Table::Usage, "t", "k"), Cell { version: 1, value: Bytes::from("v") });
    let flush = Flush { cells: vec![row.clone()], ..Flush::default() };
    assert_eq!(store.flush(flush).expect("writes"), Flushed::Done);
    assert_eq!(store.get(&[row.0]).expect("reads"), [Some(row.1)]);

    let file = folder.path().join("password");
    std::fs::write(&file, "cassandra\n").expect("a file");
    let from_file = CqlSettings { cql_password: None, cql_password_file: Some(file), ..good.clone() };
    drop(CqlStore::open(&from_file).expect("a password from a file is one too"));

    let wrong = CqlSettings { cql_password: Some("wrong-secret".into()), ..good.clone() };
    refused(&wrong, "check --cql-user and --cql-password");
    let nobody = CqlSettings { cql_user: None, cql_password: None, ..good.clone() };
    refused(&nobody, "check --cql-user and --cql-password");
    let stranger = CqlSettings { cql_ca: Some(folder.path().join("other.pem")), ..good.clone() };
    refused(&stranger, "check --cql-ca");
    let missing = CqlSettings { cql_ca: Some(folder.path().join("none.pem")), ..good.clone() };
    refused(&missing, "--cql-ca");
    let plain = CqlSettings { cql_ca: None, ..good.clone() };
    refused(&plain, "--cql-ca");
    let error = CqlStore::open(&wrong).expect_err("must not open");
    assert!(matches!(error, StoreError::Refused(_)) && !error.is_retryable(), "{error}");
}
