use super::*;
use std::io::Write;

/// A folder of its own, removed at the end.
struct Folder(JournalConfig);

impl Folder {
    fn new(name: &str) -> Folder {
        let directory = std::env::temp_dir().join(format!("gateway-claim-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Folder(JournalConfig { directory, size_max: 1 << 20, files_max: 4 })
    }

    fn file(&self, number: u64) -> PathBuf {
        files::path(&self.0.directory, number)
    }

    fn take(&self) -> Result<Claim, ClaimError> {
        Claim::take(&self.0, &Patience::new(Duration::ZERO, &|_| {}))
    }

    /// A gateway that wrote `text` into file `number` and ended.
    fn written(&self, number: u64, text: &str) {
        fs::write(self.file(number), text).unwrap();
        self.take().unwrap().lock.note(number, text.len() as u64);
    }

    /// Where the next gateway begins, and what it finds damaged: what, lines, bytes.
    fn found(&self) -> (u64, Vec<(&'static str, u64, u64)>) {
        let claim = self.take().unwrap();
        (claim.number, claim.damages.iter().map(|one| (one.what, one.lines, one.bytes)).collect())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.directory);
    }
}

#[test]
fn a_folder_has_one_gateway() {
    let folder = Folder::new("one");
    assert!(Claim::check(&folder.0).is_ok());
    let first = folder.take().unwrap();
    assert!(matches!(Claim::check(&folder.0), Err(ClaimError::Held { .. })));
    let refused = folder.take().unwrap_err().to_string();
    assert!(refused.contains(&folder.0.directory.display().to_string()), "{refused}");
    // A drain gives it to the next one, which leaves the file that is still written.
    fs::write(folder.file(1), "{}\n{\"half").unwrap();
    let written = Held::lock(files::open(&folder.file(1), true).unwrap()).unwrap().unwrap();
    first.lock.release();
    first.lock.note(9, 9);
    assert_eq!(folder.found(), (2, vec![]));
    drop(written);
    assert_eq!(folder.found(), (1, vec![]), "and a killed one's file is gone on with");
}

#[test]
fn what_was_taken_away_while_no_gateway_ran_is_found() {
    let folder = Folder::new("taken");
    folder.written(7, "{\"a\":1}\n{\"b\":2}\n");
    assert_eq!(folder.found(), (7, vec![]));
    fs::write(folder.file(7), "{\"a\":1}\n").unwrap();
    assert_eq!(folder.found(), (8, vec![("it was cut short", 0, 8)]));
    fs::remove_file(folder.file(7)).unwrap();
    assert_eq!(folder.found(), (8, vec![("the file written last is gone", 0, 16)]));
}

#[test]
fn lines_that_are_no_records_are_found_and_left() {
    let folder = Folder::new("bad");
    let text = "{\"a\":1}\n\0\0\0\0\n{\"b\":2}\n";
    folder.written(3, text);
    assert_eq!(folder.found(), (4, vec![("lines that are no records, or a hole", 1, 5)]));
    assert_eq!(fs::read_to_string(folder.file(3)).unwrap(), text);
    // Half a line is what a crash leaves, and is cut off by the writer.
    fs::write(folder.file(3), "{\"a\":1}\n{\"b\":2}\n{\"event\":\"connec").unwrap();
    assert_eq!(folder.found(), (3, vec![]));
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    for name in ["audit.lock", "audit-00000001.jsonl"] {
        let folder = Folder::new("fifo");
        let fifo = folder.0.directory.join(name);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let refused = folder.take().unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("it is no regular file"), "{refused}");
    }
}

#[test]
fn any_lock_file_is_read() {
    let folder = Folder::new("any");
    for text in [
        "",
        "{",
        "{\"pid\":-1,\"file\":1,\"bytes\":1}",
        "{\"pid\":1,\"file\":18446744073709551615,\"bytes\":1}",
        "x\n",
    ] {
        fs::File::create(lock_path(&folder.0.directory)).unwrap().write_all(text.as_bytes()).unwrap();
        folder.take().unwrap();
    }
}
