//! Directories that package.json wants to find again in the next build: `cacheDirectories`, such as `.next/cache`.

use crate::tree::literal_directory;
use serde_json::Value;

/// Puts those of `$DIRECTORIES` that the last build left where they were, unless something is there.
pub(super) const RESTORE: &str = r#"printf '%s\n' "$DIRECTORIES" | while IFS= read -r name; do
  [ -e "/cache/directories/$name" ] || { echo "- $name (not kept before)"; continue; }
  [ ! -e "$name" ] || { echo "- $name (in the repository)"; continue; }
  echo "- $name"
  mkdir -p "$(dirname "$name")" && cp -a "/cache/directories/$name" "$name" || exit
done"#;

/// Keeps those of `$DIRECTORIES` that are there, in place of what was kept before.
pub(super) const SAVE: &str = r#"rm -rf /cache/directories
printf '%s\n' "$DIRECTORIES" | while IFS= read -r name; do
  [ -e "$name" ] || continue
  echo "- $name"
  mkdir -p "/cache/directories/$(dirname "$name")" && cp -a "$name" "/cache/directories/$name" || exit
done"#;

/// The directories, one a line; none are named when it is empty. Those of installed packages are not among them: they
/// are made from the lock file, or kept with it. Source: Heroku Dev Center, "Node.js Support", "Cache Behavior".
pub(super) fn directories(package: &Value) -> String {
    let named = ["cacheDirectories", "cache_directories"].iter().find_map(|field| package[*field].as_array());
    let paths = named.into_iter().flatten().filter_map(Value::as_str).filter_map(literal_directory);
    let own = paths.filter(|path| !path.contains('\n') && !path.split('/').any(|part| part == "node_modules"));
    own.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_the_app_are_kept() {
        let package = serde_json::json!({
            "cacheDirectories": ["node_modules", "./.next/cache", "../elsewhere", "/etc", "a\nb", 3, "packages/web/node_modules", "dist"],
        });
        assert_eq!(directories(&package), ".next/cache\ndist");
        assert_eq!(directories(&serde_json::json!({"cache_directories": ["dist"]})), "dist");
        assert_eq!(directories(&serde_json::json!({"cacheDirectories": "dist"})), "");
    }
}
