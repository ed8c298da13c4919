//! Ways to log in: TLS modes, password methods, and a role with no more rights than it needs.

use crate::harness::proxy::Proxy;
use crate::harness::servers::{address, variable};
use crate::harness::{Documents, ServiceBuilder, Site, documents};

const TABLE: &str =
    "create table thing (id int primary key, name text); insert into thing values (1, 'x')";
const SCHEMA: &str = r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#;

fn site(test: &str) -> Site {
    let site = Site::new(test, TABLE);
    site.schema(SCHEMA);
    site
}

fn one_document() -> Documents {
    documents(r#"{"1": {"id": 1, "name": "x"}}"#)
}

/// The service as another role.
fn as_role(site: &Site, role: &str, password: &str) -> ServiceBuilder {
    let mut url = site.url();
    url.set_username(role).unwrap();
    url.set_password(Some(password)).unwrap();
    site.service().set("PG_URL", url)
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn every_tls_mode_connects_both_connections() {
    let site = site("tls_modes");
    let authority = variable("PGSYNCD_TEST_POSTGRES_CA");
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        let name = mode.replace('-', "_");
        let file = format!("{name}.json");
        let prefix = format!("{}{name}-", site.prefix);
        site.write(&file, &site.prefixed(SCHEMA, &prefix));
        let builder = site
            .service()
            .set("PG_SSLMODE", mode)
            .set("PG_SSLROOTCERT", &authority)
            .set("SCHEMA", &file)
            .set("PGSYNCD_NAME", &name);
        let service = builder.start();
        service.wait_ready();
        let encrypted = site.texts(&format!(
            "select distinct s.ssl::text from pg_stat_ssl s join pg_stat_activity a using (pid)
             where a.datname = '{}' and a.pid <> pg_backend_pid()",
            site.name
        ));
        let expected = if ["disable", "allow"].contains(&mode) { "false" } else { "true" };
        assert_eq!(encrypted, [expected], "{mode}");
        service.stop();
        assert_eq!(site.documents(&format!("{name}-things")), one_document(), "{mode}");
    }
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_certificate_of_another_authority_is_refused() {
    let site = site("tls_wrong");
    // A certificate, but of nobody who signed the server's.
    site.write("other.crt", OTHER_AUTHORITY);
    for mode in ["verify-ca", "verify-full"] {
        let builder = site.service().set("PG_SSLMODE", mode).set("PG_SSLROOTCERT", "other.crt");
        let ended = builder.arguments(&["--once"]).run();
        assert_eq!(ended.code, Some(78), "{mode}: {}", ended.stderr);
        assert!(ended.stderr.contains("TLS"), "{mode}: {}", ended.stderr);
        site.assert_nothing_made();
    }
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_host_that_is_not_in_the_certificate_is_refused_by_verify_full_alone() {
    let site = site("tls_name");
    // The server's certificate names `localhost` and 127.0.0.1.
    let proxy = Proxy::new("127.0.0.2", &address("POSTGRES"));
    let mut url = site.url();
    url.set_host(Some("127.0.0.2")).unwrap();
    url.set_port(Some(proxy.address.port())).unwrap();
    let authority = variable("PGSYNCD_TEST_POSTGRES_CA");
    let builder = site.service().set("PG_URL", url).set("PG_SSLROOTCERT", authority);
    let full = builder.clone().set("PG_SSLMODE", "verify-full").arguments(&["--once"]).run();
    assert_eq!(full.code, Some(78), "{}", full.stderr);
    assert!(full.stderr.contains("not valid for"), "{}", full.stderr);
    site.assert_nothing_made();
    builder.set("PG_SSLMODE", "verify-ca").once();
    assert_eq!(site.documents("things"), one_document());
}

/// Tests that use a role that is named in the server's `pg_hba.conf`, each in one test alone.
fn logs_in(test: &str, role: &str, password: &str, sslmode: &str) {
    let site = site(test);
    site.add_role(role, &format!("superuser replication {password}"));
    as_role(&site, role, "pa ss:w@rd").set("PG_SSLMODE", sslmode).once();
    assert_eq!(site.documents("things"), one_document());
}

const SCRAM: &str = "password 'pa ss:w@rd'";

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_password_is_proved_by_scram_with_and_without_channel_binding() {
    logs_in("scram_tls", "e2e_scram_tls", SCRAM, "require");
    logs_in("scram_plain", "e2e_scram_plain", SCRAM, "disable");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_password_is_proved_by_md5() {
    let site = site("md5");
    site.add_role("by_md5", "superuser replication");
    site.run("set password_encryption = 'md5'; alter role by_md5 password 'pa ss:w@rd'");
    for mode in ["require", "disable"] {
        as_role(&site, "by_md5", "pa ss:w@rd").set("PG_SSLMODE", mode).once();
    }
    assert_eq!(site.documents("things"), one_document());
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_password_is_sent_in_clear_text_with_a_warning() {
    let site = site("cleartext");
    site.add_role("by_cleartext", &format!("superuser replication {SCRAM}"));
    let builder = as_role(&site, "by_cleartext", "pa ss:w@rd").arguments(&["--once"]);
    let plain = builder.clone().set("PG_SSLMODE", "disable").run();
    assert_eq!(plain.code, Some(0), "{}", plain.stderr);
    assert!(plain.stderr.contains("WARN") && plain.stderr.contains("clear"), "{}", plain.stderr);
    assert!(!plain.stderr.contains("pa ss"), "the password is in the log");
    assert_eq!(site.documents("things"), one_document());
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn no_password_is_sent_where_none_is_asked_for() {
    logs_in("trust", "by_trust", "", "prefer");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_role_that_must_use_tls_is_refused_without() {
    let site = site("tls_only");
    site.add_role("tls_only", &format!("superuser replication {SCRAM}"));
    let builder = as_role(&site, "tls_only", "pa ss:w@rd");
    let ended = builder.clone().set("PG_SSLMODE", "disable").arguments(&["--once"]).run();
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("does not let this client in"), "{}", ended.stderr);
    site.assert_nothing_made();
    for mode in ["prefer", "allow", "require"] {
        builder.clone().set("PG_SSLMODE", mode).once();
    }
    assert_eq!(site.documents("things"), one_document());
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn replication_and_select_suffice_when_somebody_else_made_the_publication() {
    let site = site("least");
    let role = format!("{}_role", site.name);
    site.add_role(&role, "replication password 'x'");
    site.run(&format!("grant select on thing to {role}"));
    let builder = as_role(&site, &role, "x");

    // What it prints is what its administrator has to run.
    let refused = builder.clone().arguments(&["--once"]).run();
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    let statement = refused.stderr.lines().find(|line| line.contains("CREATE PUBLICATION"));
    let statement = statement.unwrap_or_else(|| panic!("{}", refused.stderr));
    site.assert_nothing_made();
    site.run(statement);

    let service = builder.start_ready();
    site.run("insert into thing values (2, 'y')");
    site.expect(
        "things",
        &documents(r#"{"1": {"id": 1, "name": "x"}, "2": {"id": 2, "name": "y"}}"#),
    );
    service.stop();
    assert_eq!(site.publications().len(), 1);
}

/// Its key was thrown away.
const OTHER_AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBkDCCATWgAwIBAgIUbUvCJJ3iJWED213mlcIfohI0vsUwCgYIKoZIzj0EAwIw\n\
HDEaMBgGA1UEAwwRYW5vdGhlciBhdXRob3JpdHkwIBcNMjYxMTIxMTI1MDUwWhgP\n\
MjEyNjEwMjgxMjUwNTBaMBwxGjAYBgNVBAMMEWFub3RoZXIgYXV0aG9yaXR5MFkw\n\
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVsaX+bUHW3ot+ZxS1zulRPahQRRAHAjk\n\
evhHf8oyQs3JBF5zd7RjDHZEeddwXYWfMHRhL/WaF/kW2rX+NHTGZqNTMFEwHQYD\n\
VR0OBBYEFG8UsOafKebMqi0pVmUBmFSMEZImMB8GA1UdIwQYMBaAFG8UsOafKebM\n\
qi0pVmUBmFSMEZImMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIh\n\
ALF30ci7AfBSqYtOrbOpe2wHdUqgBX8Oc7ACImknMNRVAiEA3NXxND/+erWh9/qy\n\
dtdVmihH4ru33jps2G107bU4a3Y=\n\
-----END CERTIFICATE-----\n\
";
