//! RFC 8448, 3: a handshake with X25519 and AES-128-GCM-SHA256, from the traffic secrets on.

use super::hex;
use crate::alert::Alert;
use crate::layer::{Opened, RecordLayer, Traffic};
use crate::suite::{Role, Suite};

const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";

/// Records of application data: the bytes 0 to 49.
const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc
    ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee
    bb 21 69 49 15 e4";
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa
    1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0
    32 e1 67 c2 95 5d";
const CLIENT_CLOSE: &str = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
const SERVER_CLOSE: &str = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

/// Client and server behind the server's ticket, which was record 0 of its direction.
fn layers() -> (RecordLayer, RecordLayer) {
    let (client, server) = (hex(CLIENT_SECRET), hex(SERVER_SECRET));
    let up = Traffic::Secret { secret: &client, sequence: 0 };
    let down = Traffic::Secret { secret: &server, sequence: 1 };
    let suite = Suite::Aes128Gcm;
    (RecordLayer::new(Role::Client, suite, &down, &up), RecordLayer::new(Role::Server, suite, &up, &down))
}

#[test]
fn keys_follow_from_secrets() {
    let (mut client, _) = layers();
    let (receive, send) = client.directions();
    let keys = |key: &str, iv: &str| (hex(key), hex(iv));
    let (key, iv) = keys("17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9");
    assert_eq!(send.keys(), (&key[..], &iv[..]));
    let (key, iv) = keys("9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984");
    assert_eq!(receive.keys(), (&key[..], &iv[..]));
}

fn seal(layer: &mut RecordLayer, plaintext: &[u8]) -> Vec<u8> {
    let (start, size) = (layer.plaintext_start(), layer.record_size(plaintext.len()));
    let mut record = vec![0; size];
    record[start..start + plaintext.len()].copy_from_slice(plaintext);
    layer.seal(&mut record).unwrap();
    record
}

fn close(layer: &mut RecordLayer) -> Vec<u8> {
    let mut record = vec![0; RecordLayer::CONTROL_RECORD_SIZE_MAX];
    let size = layer.seal_alert(Alert::CloseNotify, &mut record).unwrap();
    record.truncate(size);
    record
}

#[test]
fn records_are_the_published_ones() {
    let (mut client, mut server) = layers();
    let plaintext: Vec<u8> = (0..50).collect();
    assert_eq!(seal(&mut client, &plaintext), hex(CLIENT_DATA));
    assert_eq!(seal(&mut server, &plaintext), hex(SERVER_DATA));
    assert_eq!(close(&mut client), hex(CLIENT_CLOSE));
    assert_eq!(close(&mut server), hex(SERVER_CLOSE));
}

#[test]
fn published_records_open_in_place() {
    let (mut client, mut server) = layers();
    for (layer, data, close) in
        [(&mut server, CLIENT_DATA, CLIENT_CLOSE), (&mut client, SERVER_DATA, SERVER_CLOSE)]
    {
        let (mut data, mut close) = (hex(data), hex(close));
        let mut opener = layer.opener();
        assert_eq!(opener.open(&mut data, 0), Ok(Opened::Data(5..55)));
        assert!(data[5..55].iter().copied().eq(0..50));
        assert_eq!(opener.open(&mut close, 0), Ok(Opened::Closed));
    }
}
