//! Accounts, tokens, keys.

use crate::{Conn, Result, StoreError, micros, optional_time, parsed, time, token_hash, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::admission::{Actor, Scope};
use shipway_domain::{AccountId, Email, KeyId, NameOrId, TokenId};

/// A person or machine with access.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its address, unique.
    pub email: Email,
    /// What people call it.
    pub name: Option<String>,
    /// Whether it administers the platform.
    pub admin: bool,
    /// Argon2 hash in PHC form; without one it cannot log in with a password.
    pub password_hash: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// One authorization. The token itself is nowhere: only its hash.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub account: AccountId,
    /// The first and last characters, as `heroku logout` compares them: `HRKU-ab**********yz`.
    pub hint: String,
    /// What its owner called it.
    pub description: String,
    /// How far it reaches.
    pub scope: Scope,
    /// `authorization` (made by a person), `session` (made by `shipway env` or a page).
    pub kind: TokenKind,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ends; never without.
    pub expires_at: Option<Timestamp>,
}

/// What a token was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Listed under `authorizations`.
    Authorization,
    /// A session of a browser or of `shipway env`.
    Session,
}

impl TokenKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Session => "session",
        }
    }
}

/// An uploaded SSH public key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub account: AccountId,
    /// `ssh-… BASE64 comment`.
    pub public_key: String,
    /// `SHA256:…` or the MD5 form in hex pairs.
    pub fingerprint: String,
    /// The comment after the key.
    pub comment: String,
    /// When it was added.
    pub created_at: Timestamp,
}

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: parsed(row, "id")?,
        email: parsed(row, "email")?,
        name: row.get("name")?,
        admin: row.get("admin")?,
        password_hash: row.get("password_hash")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: parsed(row, "id")?,
        account: parsed(row, "account_id")?,
        hint: row.get("hint")?,
        description: row.get("description")?,
        scope: word(row, "scope", Scope::from_text)?,
        kind: word(row, "kind", |s| match s {
            "authorization" => Some(TokenKind::Authorization),
            "session" => Some(TokenKind::Session),
            _ => None,
        })?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        expires_at: optional_time(row, "expires_at")?,
    })
}

/// Whoever shows a token, of a row with its scope and its account.
fn actor(row: &Row<'_>) -> rusqlite::Result<Actor> {
    let email: Email = parsed(row, "email")?;
    Ok(Actor {
        account: parsed(row, "id")?,
        email: email.to_string(),
        admin: row.get("admin")?,
        scope: word(row, "scope", Scope::from_text)?,
    })
}

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key {
        id: parsed(row, "id")?,
        account: parsed(row, "account_id")?,
        public_key: row.get("public_key")?,
        fingerprint: row.get("fingerprint")?,
        comment: row.get("comment")?,
        created_at: time(row, "created_at")?,
    })
}

impl Conn<'_> {
    /// Adds an account. Errors: `Taken` for a known address.
    pub fn insert_account(&self, a: &Account) -> Result<()> {
        self.execute(
            "INSERT INTO accounts (id, email, name, admin, password_hash, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?)",
            params![
                a.id.to_string(),
                a.email.as_str(),
                a.name,
                a.admin,
                a.password_hash,
                micros(a.created_at),
                micros(a.updated_at)
            ],
        )
        .map_err(unique("e-mail address"))?;
        Ok(())
    }

    /// Writes name, admin flag and password of an account.
    pub fn update_account(&self, a: &Account) -> Result<()> {
        self.execute(
            "UPDATE accounts SET name=?, admin=?, password_hash=?, updated_at=? WHERE id=?",
            params![a.name, a.admin, a.password_hash, micros(a.updated_at), a.id.to_string()],
        )?;
        Ok(())
    }

    /// Finds an account by id or address.
    pub fn account(&self, which: &NameOrId) -> Result<Option<Account>> {
        let (sql, value) = match which {
            NameOrId::Id(id) => ("SELECT * FROM accounts WHERE id = ?", id.to_string()),
            NameOrId::Name(email) => ("SELECT * FROM accounts WHERE email = ?", email.to_ascii_lowercase()),
        };
        self.row(sql, [value], account)
    }

    /// Whether two accounts own or work on one app, or are in one team.
    pub fn share_an_app(&self, a: AccountId, b: AccountId) -> Result<bool> {
        self.value(
            "WITH access AS (SELECT id AS place, owner_id AS account_id FROM apps
                             UNION SELECT app_id, account_id FROM collaborators
                             UNION SELECT team_id, account_id FROM team_members)
             SELECT EXISTS (SELECT 1 FROM access x JOIN access y USING (place)
             WHERE x.account_id = ? AND y.account_id = ?)",
            [a.to_string(), b.to_string()],
        )
    }

    /// The account with this id. Errors: `Missing`.
    pub fn account_by_id(&self, id: AccountId) -> Result<Account> {
        self.account(&id.into())?.ok_or(StoreError::Missing("account"))
    }

    /// Whether somebody besides this account administers the platform.
    pub fn has_other_admin(&self, account: AccountId) -> Result<bool> {
        self.value("SELECT EXISTS (SELECT 1 FROM accounts WHERE admin AND id <> ?)", [account.to_string()])
    }

    /// All people, oldest first. Teams' accounts are left out.
    pub fn accounts(&self) -> Result<Vec<Account>> {
        self.rows("SELECT * FROM accounts WHERE id NOT IN (SELECT id FROM teams) ORDER BY created_at, id", [], account)
    }

    /// Adds a token by its hash. Errors: its person was removed.
    pub fn insert_token(&self, t: &Token, secret: &str) -> Result<()> {
        self.execute(
            "INSERT INTO tokens (id, account_id, hash, hint, description, scope, kind, created_at, updated_at,
             expires_at) VALUES (?,?,?,?,?,?,?,?,?,?)",
            params![
                t.id.to_string(),
                t.account.to_string(),
                token_hash(secret),
                t.hint,
                t.description,
                t.scope.text(),
                t.kind.as_str(),
                micros(t.created_at),
                micros(t.updated_at),
                t.expires_at.map(micros)
            ],
        )
        .map_err(|e| match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Missing("account"),
            _ => StoreError::Sqlite(e),
        })?;
        Ok(())
    }

    /// Writes a token's description, and its secret where a new one is given.
    pub fn update_token(&self, t: &Token, secret: Option<&str>) -> Result<()> {
        self.execute(
            "UPDATE tokens SET description=?, hint=?, hash=coalesce(?, hash), updated_at=? WHERE id=?",
            params![t.description, t.hint, secret.map(token_hash), micros(t.updated_at), t.id.to_string()],
        )?;
        Ok(())
    }

    /// Who shows this token, if it is known and has not expired at `now`; and which it is.
    pub fn authenticate(&self, secret: &str, now: Timestamp) -> Result<Option<(Actor, TokenId)>> {
        self.row(
            "SELECT t.id AS token_id, t.scope, a.id, a.email, a.admin
             FROM tokens t JOIN accounts a ON a.id = t.account_id
             WHERE t.hash = ? AND (t.expires_at IS NULL OR t.expires_at > ?)",
            params![token_hash(secret), micros(now)],
            |row| Ok((actor(row)?, parsed(row, "token_id")?)),
        )
    }

    /// Whose a token is that was shown before with the secret of this [`token_mark`], if it still stands at `now`; and until
    /// when it does.
    ///
    /// [`token_mark`]: crate::token_mark
    pub fn token_stands(&self, id: TokenId, mark: &str, now: Timestamp) -> Result<Option<(Actor, Option<Timestamp>)>> {
        self.row(
            "SELECT t.scope, t.expires_at, a.id, a.email, a.admin
             FROM tokens t JOIN accounts a ON a.id = t.account_id
             WHERE t.id = ? AND lower(hex(substr(t.hash, 1, 8))) = ? AND (t.expires_at IS NULL OR t.expires_at > ?)",
            params![id.to_string(), mark, micros(now)],
            |row| Ok((actor(row)?, optional_time(row, "expires_at")?)),
        )
    }

    /// The tokens of an account that are alive at `now`, oldest first.
    pub fn tokens(&self, account: AccountId, now: Timestamp) -> Result<Vec<Token>> {
        self.rows(
            "SELECT * FROM tokens WHERE account_id = ? AND (expires_at IS NULL OR expires_at > ?)
             ORDER BY created_at, id",
            params![account.to_string(), micros(now)],
            token,
        )
    }

    /// Ends a token.
    pub fn delete_token(&self, id: TokenId) -> Result<()> {
        self.execute("DELETE FROM tokens WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Ends tokens that expired before `now`.
    pub fn delete_expired_tokens(&self, now: Timestamp) -> Result<usize> {
        Ok(self.execute("DELETE FROM tokens WHERE expires_at <= ?", [micros(now)])?)
    }

    /// Adds a key. Errors: `Taken` when somebody has it already.
    pub fn insert_key(&self, k: &Key) -> Result<()> {
        self.execute(
            "INSERT INTO keys (id, account_id, public_key, fingerprint, comment, created_at) VALUES (?,?,?,?,?,?)",
            params![
                k.id.to_string(),
                k.account.to_string(),
                k.public_key,
                k.fingerprint,
                k.comment,
                micros(k.created_at)
            ],
        )
        .map_err(unique("key"))?;
        Ok(())
    }

    /// The keys of an account, oldest first.
    pub fn keys_of(&self, account: AccountId) -> Result<Vec<Key>> {
        self.rows("SELECT * FROM keys WHERE account_id = ? ORDER BY created_at, id", [account.to_string()], key)
    }

    /// Removes a key.
    pub fn delete_key(&self, id: KeyId) -> Result<()> {
        self.execute("DELETE FROM keys WHERE id = ?", [id.to_string()])?;
        Ok(())
    }
}
