//! Directories that processes of strangers wrote to.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Removes a directory with all that is in it, however deep it is and whatever its modes forbid. Not being there is no
/// error; links are not followed.
///
/// Nobody may write to it any more, and all of it must belong to the caller. `std::fs::remove_dir_all` stops where a mode
/// forbids even the owner to look, and holds a descriptor and a stack frame for each level: both are a build's to choose.
/// Here every directory is moved up to the top before it is emptied.
pub fn remove_tree(top: &Path) -> io::Result<()> {
    match fs::symlink_metadata(top) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(found) if !found.is_dir() => return fs::remove_file(top),
        Ok(_) => {}
    }
    let mut doomed = vec![top.to_path_buf()];
    let mut number = 0;
    while let Some(directory) = doomed.pop() {
        for entry in allowed(&[&directory], || fs::read_dir(&directory))? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                allowed(&[&directory], || fs::remove_file(&path))?;
            } else if directory == top {
                doomed.push(path);
            } else {
                doomed.push(moved_up(&path, &directory, top, &mut number)?);
            }
        }
        if directory != top {
            allowed(&[top], || fs::remove_dir(&directory))?;
        }
    }
    fs::remove_dir(top)
}

/// Moves a directory to the top, under a name that nothing has there. Returns its path.
fn moved_up(path: &Path, parent: &Path, top: &Path, number: &mut u64) -> io::Result<PathBuf> {
    loop {
        *number += 1;
        let place = top.join(format!(".doomed-{number}"));
        match allowed(&[parent, path, top], || fs::rename(path, &place)) {
            // Somebody thought of the name before; an empty directory of that name is simply replaced.
            Err(e) if matches!(e.kind(), ErrorKind::NotADirectory | ErrorKind::DirectoryNotEmpty) => {}
            moved => return moved.map(|()| place),
        }
    }
}

/// Does something; where modes forbid it, once more with these directories opened.
fn allowed<T>(directories: &[&Path], act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            for directory in directories {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
            }
            act()
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// Modes forbid nothing to root: where the test is run by root, somebody else removes.
    #[test]
    fn attack_44_no_mode_and_no_depth_keeps_a_tree() {
        const TREE: &str = "SHIPWAY_TEST_TREE";
        if let Some(tree) = std::env::var_os(TREE) {
            return remove_tree(Path::new(&tree)).expect("it goes");
        }
        let place = tempfile::tempdir().expect("a directory");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
        let script = "mkdir -p tree/closed/inner tree/.doomed-1/x tree/a/b && cd tree && echo x >closed/inner/file \
            && echo x >.doomed-2 && echo x >a/read-only && ln -s ../../kept a/link && chmod 555 a && chmod 000 closed/inner \
            && chmod 000 closed && perl -e 'for (1..3000) { mkdir \"deep-enough\"; chdir \"deep-enough\" }'";
        fs::write(place.path().join("kept"), "").expect("a file");
        symlink("kept", place.path().join("link")).expect("a link");
        let somebody = |command: &mut Command| {
            if is_root() {
                command.uid(54_321).gid(54_321);
            }
            assert!(command.current_dir(place.path()).status().expect("it runs").success());
        };
        somebody(Command::new("bash").args(["-ec", script]));
        let tree = place.path().join("tree");
        let own = std::env::current_exe().expect("an executable");
        let name = "trees::tests::attack_44_no_mode_and_no_depth_keeps_a_tree";
        somebody(Command::new(own).args(["--exact", name]).env(TREE, &tree));
        assert!(!tree.exists() && place.path().join("kept").exists());
        remove_tree(&tree).expect("gone already");
        remove_tree(&place.path().join("link")).expect("a link is a file");
        assert!(place.path().join("kept").exists());
    }

    fn is_root() -> bool {
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
    }
}
