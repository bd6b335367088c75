//! Blobs and layers on a real directory.

use shipway_blobs::{BlobError, Blobs, Layers, PackError, PackLimits, PackSpec, archive};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

struct Home {
    directory: tempfile::TempDir,
    blobs: Blobs,
    layers: Layers,
}

fn home() -> Home {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path()).unwrap();
    let layers = Layers::open(directory.path(), blobs.clone()).unwrap();
    Home { directory, blobs, layers }
}

fn spec(root: &Path) -> PackSpec<'_> {
    PackSpec { root, subtree: Path::new(""), exclude: &|_, _| false, limits: PackLimits::default() }
}

fn sample(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("bin/run"), fs::Permissions::from_mode(0o6775)).unwrap();
    fs::write(root.join("-rf"), "a file named like an option").unwrap();
    fs::write(root.join("key"), "k").unwrap();
    fs::set_permissions(root.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    let long = root.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("ü"), "long").unwrap();
}

#[test]
fn a_blob_is_named_by_its_bytes_and_read_back() {
    let home = home();
    let (digest, size) = home.blobs.put(&b"hello"[..]).unwrap();
    assert_eq!(digest.as_str(), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!((size, home.blobs.size(&digest).unwrap()), (5, 5));
    assert_eq!(home.blobs.put(&b"hello"[..]).unwrap().0, digest);
    assert_eq!(home.blobs.get(&digest).unwrap(), b"hello");
    assert_eq!(home.blobs.list().unwrap(), [(digest.clone(), 5)]);
    home.blobs.remove(&digest).unwrap();
    home.blobs.remove(&digest).unwrap();
    assert!(!home.blobs.exists(&digest));
    assert!(matches!(home.blobs.get(&digest), Err(BlobError::Missing(d)) if d == digest));
}

#[test]
fn an_unfinished_blob_never_was() {
    let home = home();
    drop(home.blobs.writer().unwrap());
    assert_eq!(home.blobs.list().unwrap(), []);
    assert_eq!(fs::read_dir(home.directory.path().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn a_corrupt_blob_is_named_and_never_served() {
    let home = home();
    let (digest, _) = home.blobs.put(&b"hello"[..]).unwrap();
    let file = home.directory.path().join("blobs/sha256").join(digest.hex());
    let looks: [&dyn Fn() -> String; 3] = [
        &|| home.blobs.get(&digest).unwrap_err().to_string(),
        &|| home.blobs.verified(&digest).unwrap_err().to_string(),
        &|| home.layers.unpack(&digest).unwrap_err().to_string(),
    ];
    for look in looks {
        fs::write(&file, "hellO").unwrap();
        let error = look();
        assert!(error.contains(&format!("blob {digest} is corrupt")), "{error}");
        // Put aside: who asks whether it is there makes it again.
        assert!(!home.blobs.exists(&digest));
    }
    assert_eq!(home.blobs.list().unwrap(), []);
    assert!(!home.layers.path(&digest).exists());
    // The same bytes again repair it.
    home.blobs.put(&b"hello"[..]).unwrap();
    assert_eq!(home.blobs.get(&digest).unwrap(), b"hello");
}

#[test]
fn the_same_tree_gives_the_same_layer() {
    let home = home();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample(one.path());
    sample(two.path());
    fs::File::open(two.path().join("key")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let (digest, _, packed) = home.layers.pack(&spec(one.path())).unwrap();
    assert_eq!(home.layers.pack(&spec(two.path())).unwrap().0, digest);
    assert_eq!((packed.entries, packed.skipped.len()), (8, 0));

    let layer = home.layers.unpack(&digest).unwrap();
    assert_eq!(home.layers.unpack(&digest).unwrap(), layer);
    let mode = |name: &str| fs::symlink_metadata(layer.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("bin/run"), mode("key"), mode("bin")), (0o755, 0o600, 0o755));
    assert_eq!(fs::read_link(layer.join("link")).unwrap(), Path::new("/etc/passwd"));
    let long = layer.join("d".repeat(120)).join("e".repeat(120)).join("ü");
    assert_eq!(fs::read_to_string(long).unwrap(), "long");
    assert_eq!(home.layers.list().unwrap(), std::slice::from_ref(&digest));
    home.layers.remove(&digest).unwrap();
    home.layers.remove(&digest).unwrap();
    assert_eq!(home.layers.list().unwrap(), []);
    home.layers.unpack(&digest).unwrap();
}

#[test]
fn a_subtree_keeps_its_place() {
    let home = home();
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    fs::write(tree.path().join("a/b/c/in"), "").unwrap();
    fs::write(tree.path().join("a/b/out"), "").unwrap();
    fs::write(tree.path().join("a/b/c/skip"), "").unwrap();
    let spec = PackSpec {
        root: tree.path(),
        subtree: Path::new("a/b/c"),
        exclude: &|path, _| path == Path::new("a/b/c/skip"),
        limits: PackLimits::default(),
    };
    let (digest, _, packed) = home.layers.pack(&spec).unwrap();
    assert_eq!(packed.entries, 4);
    let layer = home.layers.unpack(&digest).unwrap();
    assert!(layer.join("a/b/c/in").is_file() && !layer.join("a/b/out").exists() && !layer.join("a/b/c/skip").exists());
}

#[test]
fn attack_44_a_tree_that_is_too_large_is_refused_by_name() {
    let home = home();
    let tree = tempfile::tempdir().unwrap();
    for n in 0..20 {
        fs::write(tree.path().join(format!("f{n:02}")), [0; 100]).unwrap();
    }
    let check = |limits: PackLimits, expected: &str| {
        let error = home.layers.pack(&PackSpec { limits, ..spec(tree.path()) }).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let limits = PackLimits::default();
    check(PackLimits { entries: 10, ..limits }, "the tree has more than 10 entries (at )");
    check(PackLimits { bytes: 1000, ..limits }, "the tree has more than 1000 bytes (at f10)");
    fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    check(PackLimits { depth: 2, ..limits }, "the tree has more than 2 levels of directories (at a/b/c)");
    assert_eq!(home.blobs.list().unwrap(), []);
}

#[test]
fn attack_28_devices_and_pipes_in_a_tree_are_passed_over_and_links_not_followed() {
    let home = home();
    let tree = tempfile::tempdir().unwrap();
    let pipe = tree.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    symlink("/etc", tree.path().join("etc")).unwrap();
    let (digest, size, packed) = home.layers.pack(&spec(tree.path())).unwrap();
    assert_eq!(packed.skipped, [Path::new("pipe")]);
    assert!(size <= 4096, "only the link itself is packed");
    assert!(home.layers.unpack(&digest).unwrap().join("etc").is_symlink());
    // A tree that is itself a link is refused.
    let link = tree.path().join("root");
    symlink("/etc", &link).unwrap();
    assert!(matches!(home.layers.pack(&spec(&link)), Err(PackError::Read { .. })));
}

/// Makes an archive without the checks of the `tar` crate: names and links are written as they are.
fn raw(entries: &[(&str, u8, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(0o6777);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

#[test]
fn attack_28_hostile_archives_are_refused_by_entry() {
    let check = |entries: &[(&str, u8, &str, &str)], expected: &str| {
        let outer = tempfile::tempdir().unwrap();
        let target = outer.path().join("target");
        fs::create_dir(&target).unwrap();
        let result = archive::unpack(&raw(entries)[..], &target, &archive::Limits::default());
        assert_eq!(result.map_err(|e| e.to_string()), Err(expected.to_string()));
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "something was written outside");
    };
    check(&[("../x", b'0', "", "")], "the archive's entry \"../x\" leads out of the archive with `..`");
    check(&[("a/../../x", b'0', "", "")], "the archive's entry \"a/../../x\" leads out of the archive with `..`");
    check(&[("/etc/x", b'0', "", "")], "the archive's entry \"/etc/x\" has an absolute path");
    check(
        &[("a", b'2', "..", ""), ("a/x", b'0', "", "no")],
        "the archive's entry \"a/x\" goes through a file or a symbolic link",
    );
    check(
        &[("a", b'2', "..", ""), ("a/b/c/x", b'0', "", "no")],
        "the archive's entry \"a/b/c/x\" goes through a symbolic link",
    );
    check(&[("a", b'2', "../x", ""), ("a", b'0', "", "no")], "the archive's entry \"a\" comes twice");
    check(&[("a", b'0', "", "1"), ("./a", b'0', "", "2")], "the archive's entry \"./a\" comes twice");
    check(&[("a", b'1', "/etc/passwd", "")], "the archive's entry \"/etc/passwd\" has an absolute path");
    check(
        &[("l", b'2', "/etc/passwd", ""), ("a", b'1', "l", "")],
        "the archive's entry \"a\" is a hard link to something that is not a file of this archive",
    );
    check(&[("d", b'3', "", "")], "the archive's entry \"d\" is a device; remove it");
    check(&[("d", b'4', "", "")], "the archive's entry \"d\" is a device; remove it");
    check(&[("p", b'6', "", "")], "the archive's entry \"p\" is a named pipe; remove it");
    check(&[("", b'0', "", "x")], "the archive's entry \"\" has no name");
}

#[test]
fn attack_28_set_user_id_is_dropped_and_hard_links_stay_inside() {
    let target = tempfile::tempdir().unwrap();
    let bytes = raw(&[("./", b'5', "", ""), ("a/b", b'0', "", "x"), ("c", b'1', "a/b", ""), ("a", b'5', "", "")]);
    archive::unpack(&bytes[..], target.path(), &archive::Limits::default()).unwrap();
    assert_eq!(fs::metadata(target.path().join("a/b")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_to_string(target.path().join("c")).unwrap(), "x");
}

#[test]
fn attack_28_bombs_and_cut_archives_end_early() {
    let check = |bytes: &[u8], limits: archive::Limits, expected: &str| {
        let target = tempfile::tempdir().unwrap();
        let error = archive::unpack(bytes, target.path(), &limits).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let limits = archive::Limits::default();
    let many: Vec<_> = ["a", "b", "c"].iter().map(|n| (*n, b'0', "", "0123456789")).collect();
    check(&raw(&many), archive::Limits { entries: 2, ..limits }, "more than 2 entries");
    check(&raw(&many), archive::Limits { bytes: 25, ..limits }, "more than 25 bytes");
    check(&raw(&[("big", b'0', "", &"x".repeat(5000))])[..1024], limits, "is shorter than its header says");
    check(&[1; 2048], limits, "cannot be read");
}

#[test]
fn attack_28_a_pax_size_that_disagrees_cannot_hide_an_entry() {
    // The PAX record says 512, the header 0: a reader that believes the header takes the content for the next entry.
    let hidden = raw(&[("hidden", b'0', "", "")]);
    let mut bytes = raw(&[("pax", b'x', "", "12 size=512\n")]);
    bytes.truncate(1024);
    let mut outer = raw(&[("outer", b'0', "", "")]);
    outer.truncate(512);
    bytes.extend_from_slice(&outer);
    bytes.extend_from_slice(&hidden[..512]);
    bytes.extend_from_slice(&[0; 1024]);
    let target = tempfile::tempdir().unwrap();
    archive::unpack(&bytes[..], target.path(), &archive::Limits::default()).unwrap();
    assert_eq!(fs::metadata(target.path().join("outer")).unwrap().len(), 512);
    assert!(!target.path().join("hidden").exists());
}
