//! The files of `sql/`, checked for their names and put in loading order.

use std::borrow::Cow;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::{LoadError, SCHEMAS};

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../sql");

/// One file of `sql/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    /// Path beneath `sql/`, with `/`.
    pub path: String,
    /// Its text.
    pub text: Cow<'static, str>,
}

/// The files of `sql/`, names checked.
#[derive(Debug, Clone)]
pub struct SqlTree {
    pub(crate) roles: SqlFile,
    pub(crate) grants: SqlFile,
    /// In order of their versions.
    pub(crate) migrations: Vec<SqlFile>,
    /// In loading order: by domain, then by path.
    pub(crate) functions: Vec<SqlFile>,
    /// In loading order: by domain, then by number and name.
    pub(crate) views: Vec<SqlFile>,
}

impl SqlTree {
    /// The tree that was compiled in.
    ///
    /// # Errors
    /// [`LoadError::Misnamed`] and its neighbours, when the tree breaks the naming rules.
    pub fn embedded() -> Result<SqlTree, LoadError> {
        let mut files = Vec::new();
        let mut dirs = vec![&EMBEDDED];
        while let Some(dir) = dirs.pop() {
            dirs.extend(dir.dirs());
            for file in dir.files() {
                let path = file.path().to_string_lossy().replace('\\', "/");
                let text = file.contents_utf8().ok_or_else(|| LoadError::NotText(path.clone()))?;
                files.push(SqlFile { path, text: Cow::Borrowed(text) });
            }
        }
        SqlTree::from_files(files)
    }

    /// Reads a tree from a directory.
    ///
    /// # Errors
    /// As [`SqlTree::embedded`]; [`LoadError::Io`].
    pub fn from_dir(root: &Path) -> Result<SqlTree, LoadError> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |source| LoadError::Io { path, source }
        };
        let mut files = Vec::new();
        let mut dirs = vec![root.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).map_err(io(&dir))? {
                let path = entry.map_err(io(&dir))?.path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).map_err(io(&path))?;
                let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                files.push(SqlFile { path: below, text: Cow::Owned(text) });
            }
        }
        SqlTree::from_files(files)
    }

    /// Sorts `files` into their rooms and refuses whatever has none.
    ///
    /// # Errors
    /// As [`SqlTree::embedded`].
    pub fn from_files(files: Vec<SqlFile>) -> Result<SqlTree, LoadError> {
        let (mut roles, mut grants) = (None, None);
        let (mut migrations, mut functions, mut views) = (Vec::new(), Vec::new(), Vec::new());
        for file in files {
            // Prose and the dot files that keep empty folders in git.
            let name = file.path.rsplit('/').next().unwrap_or_default();
            if name.ends_with(".md") || name.starts_with('.') {
                continue;
            }
            let parts: Vec<&str> = file.path.split('/').collect();
            match parts[..] {
                ["roles.sql"] => roles = Some(file),
                ["grants.sql"] => grants = Some(file),
                ["schema", name] if migration_version(name).is_some() => migrations.push(file),
                ["functions", domain, name] if is_loadable(domain, name) => functions.push(file),
                ["views", domain, name] if is_loadable(domain, name) => views.push(file),
                _ => return Err(LoadError::Misnamed { path: file.path }),
            }
        }
        migrations.sort_by_key(version_of);
        if let Some(pair) = migrations.windows(2).find(|pair| version_of(&pair[0]) == version_of(&pair[1])) {
            return Err(LoadError::RepeatedVersion {
                first: pair[0].path.clone(),
                second: pair[1].path.clone(),
            });
        }
        functions.sort_by_cached_key(|file| (domain_rank(file), file.path.clone()));
        views.sort_by_cached_key(|file| (domain_rank(file), number_of(file), file.path.clone()));
        let need =
            |file: Option<SqlFile>, path: &str| file.ok_or_else(|| LoadError::Missing(path.to_owned()));
        Ok(SqlTree {
            roles: need(roles, "roles.sql")?,
            grants: need(grants, "grants.sql")?,
            migrations,
            functions,
            views,
        })
    }

    /// BLAKE3 over path and content of everything that the functions pass loads, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(self.functions.iter().chain(&self.views).chain([&self.grants]))
    }

    /// BLAKE3 over the whole tree, in hexadecimal: names a template database.
    #[must_use]
    pub fn whole_digest(&self) -> String {
        let rest = self.functions.iter().chain(&self.views).chain([&self.grants, &self.roles]);
        digest(rest.chain(&self.migrations))
    }

    /// Every file that the functions pass loads, in loading order.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &SqlFile> {
        self.functions.iter().chain(&self.views)
    }
}

fn digest<'a>(files: impl Iterator<Item = &'a SqlFile>) -> String {
    let mut files: Vec<&SqlFile> = files.collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = blake3::Hasher::new();
    for file in files {
        // Lengths first, so that no two trees run together into the same bytes.
        for part in [file.path.as_bytes(), file.text.as_bytes()] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// `V0001__base.sql` is 1; anything that refinery would silently pass over is `None`.
fn migration_version(name: &str) -> Option<u32> {
    let (version, rest) = name.strip_prefix('V')?.strip_suffix(".sql")?.split_once("__")?;
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if version.len() != 4
        || !version.bytes().all(|b| b.is_ascii_digit())
        || rest.is_empty()
        || !rest.chars().all(word)
    {
        return None;
    }
    version.parse().ok().filter(|version| *version > 0)
}

fn version_of(file: &SqlFile) -> Option<u32> {
    migration_version(file.path.rsplit('/').next()?)
}

fn is_loadable(domain: &str, name: &str) -> bool {
    SCHEMAS.contains(&domain) && name.ends_with(".sql")
}

/// The order of [`SCHEMAS`] is the order of loading.
fn domain_rank(file: &SqlFile) -> usize {
    let domain = file.path.split('/').nth(1).unwrap_or_default();
    SCHEMAS.iter().position(|schema| *schema == domain).unwrap_or(usize::MAX)
}

/// `20_orders.sql` is 20; files without a number come after those with one.
fn number_of(file: &SqlFile) -> u32 {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Result<SqlTree, LoadError> {
        let file = |path: &str| SqlFile { path: path.to_owned(), text: Cow::Owned(String::new()) };
        SqlTree::from_files(["roles.sql", "grants.sql"].iter().chain(paths).map(|path| file(path)).collect())
    }

    fn paths(files: &[SqlFile]) -> Vec<&str> {
        files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn the_embedded_tree_keeps_the_naming_rules() {
        let tree = SqlTree::embedded().unwrap();
        assert!(!tree.migrations.is_empty());
        assert_eq!(tree.digest(), SqlTree::embedded().unwrap().digest());
    }

    #[test]
    fn a_file_that_no_room_takes_is_refused_by_name() {
        for path in [
            "schema/0002__x.sql",
            "schema/V2__x.sql",
            "schema/V0000__x.sql",
            "schema/V0002_x.sql",
            "schema/V0002__.sql",
            "schema/V0002__Caps.sql",
            "schema/V0002__x.txt",
            "schema/deep/V0002__x.sql",
            "functions/x.sql",
            "functions/unknown/x.sql",
            "functions/base/x.psql",
            "views/base/deep/x.sql",
            "other.sql",
        ] {
            let error = tree(&[path]).unwrap_err();
            assert!(
                matches!(&error, LoadError::Misnamed { path: named } if named == path),
                "{path}: {error}"
            );
        }
        assert!(tree(&["README.md", "functions/base/README.md", "views/.gitkeep"]).is_ok());
    }

    #[test]
    fn two_migrations_of_one_version_are_refused() {
        let error = tree(&["schema/V0002__a.sql", "schema/V0002__b.sql"]).unwrap_err();
        assert!(matches!(error, LoadError::RepeatedVersion { .. }), "{error}");
    }

    #[test]
    fn domains_load_in_the_order_of_the_house_and_views_by_number() {
        let tree = tree(&[
            "functions/market/a.sql",
            "functions/artifacts/a.sql",
            "functions/base/b.sql",
            "functions/base/a.sql",
            "views/transparency/100_z.sql",
            "views/transparency/20_z.sql",
            "views/transparency/a.sql",
            "views/base/z.sql",
        ])
        .unwrap();
        assert_eq!(
            paths(&tree.functions),
            [
                "functions/base/a.sql",
                "functions/base/b.sql",
                "functions/market/a.sql",
                "functions/artifacts/a.sql"
            ]
        );
        assert_eq!(
            paths(&tree.views),
            [
                "views/base/z.sql",
                "views/transparency/20_z.sql",
                "views/transparency/100_z.sql",
                "views/transparency/a.sql"
            ]
        );
    }
}
