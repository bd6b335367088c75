//! Accounts, their tokens, and signing in with a password. By the browser: `logins`.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Platform, Result};
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use jiff::SignedDuration;
use shipway_domain::admission::{Actor, Scope};
use shipway_domain::{AccountId, Email, NameOrId, TokenId};
use shipway_store::{Account, LedgerEntry, Token, TokenKind, hex};

/// What a new authorization is to be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What its owner calls it.
    pub description: String,
    /// How far it reaches; never further than the token that makes it.
    pub scope: Scope,
    /// Seconds until it ends; none is never.
    pub expires_in_seconds: Option<u64>,
}

/// What an account is to become. What is not named stays.
#[derive(Debug, Clone, Default)]
pub struct UpdateAccount {
    /// What its person is called; empty is nothing.
    pub name: Option<String>,
    /// The password it has, where it has one.
    pub password: Option<String>,
    /// The password it gets.
    pub new_password: Option<String>,
}

/// How long `shipway env` and pages stay signed in.
pub(crate) const SESSION: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long an invitation can be used.
const INVITATION: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Shortest and longest password, in characters.
const MIN_PASSWORD: usize = 12;
const MAX_PASSWORD: usize = 1000;
/// Longest name of a person, in characters.
const MAX_NAME: usize = 200;
/// Longest token description, in characters.
pub(crate) const MAX_DESCRIPTION: usize = 200;

/// Passwords that are tried at once: each takes a processor for tens of milliseconds, and whoever guesses must not take
/// them all.
static HASHING: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);
/// Sign-ins that wait for their turn: anybody may ask, so the next one is told to come again.
const MOST_SIGN_INS: usize = 32;
static SIGN_INS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(MOST_SIGN_INS);

impl Platform {
    pub(crate) fn random_hex<const N: usize>(&self) -> String {
        hex(&self.store().keys().random_bytes::<N>())
    }

    pub(crate) fn new_token(
        &self,
        account: AccountId,
        description: &str,
        scope: Scope,
        kind: TokenKind,
        lives: Option<SignedDuration>,
    ) -> (Token, String) {
        let secret = format!("SWAY-{}", self.random_hex::<32>());
        let now = self.now();
        let token = Token {
            id: self.id(TokenId),
            account,
            hint: hint(&secret),
            description: description.chars().take(MAX_DESCRIPTION).collect(),
            scope,
            kind,
            created_at: now,
            updated_at: now,
            expires_at: lives.and_then(|l| now.checked_add(l).ok()),
        };
        (token, secret)
    }

    /// Makes the administrator of a platform that has no account yet, and returns its token.
    pub async fn first_admin(&self, email: &Email) -> Result<Option<String>> {
        let account = self.account_record(email, None, true);
        let (token, secret) =
            self.new_token(account.id, "Administrator's first token", Scope::Global, TokenKind::Authorization, None);
        let shown = secret.clone();
        let made = self
            .store()
            .write(move |c| {
                if !c.accounts()?.is_empty() {
                    return Ok(false);
                }
                c.insert_account(&account)?;
                c.insert_token(&token, &secret)?;
                Ok(true)
            })
            .await?;
        Ok(made.then_some(shown))
    }

    pub(crate) fn account_record(&self, email: &Email, name: Option<&str>, admin: bool) -> Account {
        let now = self.now();
        Account {
            id: self.id(AccountId),
            email: email.clone(),
            name: name.map(String::from),
            admin,
            password_hash: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Who shows this token. Errors: `Unauthorized` for an unknown or expired one.
    pub fn authenticate(&self, secret: &str) -> Result<(Actor, TokenId)> {
        let now = self.now();
        self.store().read(|c| c.authenticate(secret, now))?.ok_or_else(Error::unauthorized)
    }

    /// An account by address or id that the caller has met: one's own, or of somebody with access to the same app.
    /// Administrators have met everybody. Others do not exist.
    pub fn acquaintance(&self, caller: &Caller, which: &NameOrId) -> Result<Account> {
        let me = caller.actor.account;
        let found = self.store().read(|c| {
            let Some(account) = c.account(which)? else { return Ok(None) };
            let met = account.id == me
                || caller.actor.scope.reads_widely() && (caller.actor.admin || c.share_an_app(me, account.id)?);
            Ok(met.then_some(account))
        })?;
        let next = "Whoever is new here is added by an administrator: shipway users add ADDRESS";
        found.ok_or_else(|| Error::missing_named("user", which, next))
    }

    /// Checks a password and makes a token. Errors: `Unauthorized`, without saying which of the two was wrong;
    /// `Unavailable` when too many others sign in.
    pub async fn login(
        &self,
        email: &str,
        password: &str,
        description: &str,
        expires_in: Option<u64>,
    ) -> Result<(Account, Token, String)> {
        let _place = SIGN_INS.try_acquire().map_err(|full| {
            let text = format!("{MOST_SIGN_INS} people sign in by password at this moment. Try again in a minute.");
            Error::unavailable(text, full)
        })?;
        let account = self.store().read(|c| c.account(&NameOrId::Name(email.into())))?;
        let hash = account.as_ref().and_then(|a| a.password_hash.clone());
        let password = password.to_string();
        let _turn = HASHING.acquire().await;
        // Hashing takes tens of milliseconds by design; an unknown address takes as long as a wrong password.
        let right = tokio::task::spawn_blocking(move || match hash {
            Some(hash) => verify(&hash, &password),
            None => {
                let _ = hash_password(&password);
                false
            }
        })
        .await
        .map_err(Error::platform)?;
        let account = account.filter(|_| right).ok_or_else(Error::unauthorized)?;
        let lives = expires_in.map(seconds).or(Some(SESSION));
        let (token, secret) = self.new_token(account.id, description, Scope::Global, TokenKind::Authorization, lives);
        let (kept, shown) = (token.clone(), secret.clone());
        self.store().write(move |c| c.insert_token(&kept, &secret)).await?;
        Ok((account, token, shown))
    }

    /// Adds an account with a first token. Only administrators may.
    pub async fn add_account(
        &self,
        caller: &Caller,
        email: &Email,
        name: Option<&str>,
        admin: bool,
    ) -> Result<(Account, String)> {
        if !caller.actor.admin || caller.actor.scope != Scope::Global {
            return Err(Error::forbidden("Only an administrator may add people. Ask one to run `shipway users add`."));
        }
        of_a_person(email)?;
        let account = self.account_record(email, name, admin);
        let (token, secret) = self.new_token(account.id, "First token", Scope::Global, TokenKind::Authorization, None);
        let entry =
            self.entry(caller, None, "account-added", serde_json::json!({ "email": email.as_str(), "admin": admin }));
        self.keep_account(account, token, secret, entry).await
    }

    /// Gives an account another token, as when its person has lost theirs; with `revoke` all that it had before end, sign-ins
    /// included, and their number is returned. Only administrators may. Errors: nobody has the address or id; it is a team's.
    pub async fn give_token(
        &self,
        caller: &Caller,
        which: &NameOrId,
        revoke: bool,
    ) -> Result<(Account, String, usize)> {
        if !caller.actor.admin || caller.actor.scope != Scope::Global {
            return Err(Error::forbidden(
                "Only an administrator may give somebody a token. Ask one to run `shipway users token`.",
            ));
        }
        let account = self.acquaintance(caller, which)?;
        of_a_person(&account.email)?;
        let description = format!("Given by {}", caller.actor.email);
        let (token, secret) = self.new_token(account.id, &description, Scope::Global, TokenKind::Authorization, None);
        let mut entry = self.entry(caller, None, "token-given", serde_json::json!({ "email": account.email.as_str() }));
        let (id, now, shown) = (account.id, self.now(), secret.clone());
        let ended = self
            .store()
            .write(move |c| {
                let old = if revoke { c.tokens(id, now)? } else { Vec::new() };
                old.iter().try_for_each(|token| c.delete_token(token.id))?;
                c.insert_token(&token, &secret)?;
                entry.detail["revoked"] = old.len().into();
                c.record(&entry)?;
                Ok(old.len())
            })
            .await?;
        Ok((account, shown, ended))
    }

    async fn keep_account(
        &self,
        account: Account,
        token: Token,
        secret: String,
        entry: LedgerEntry,
    ) -> Result<(Account, String)> {
        let (made, shown) = (account.clone(), secret.clone());
        let written = self.store().write(move |c| {
            c.insert_account(&account)?;
            c.insert_token(&token, &secret)?;
            c.record(&entry)
        });
        let taken = format!("{0} has an account here. A new token for them: shipway users token {0}", made.email);
        written.await.map_err(|e| match e {
            shipway_store::StoreError::Taken(_) => Error::invalid(taken),
            other => other.into(),
        })?;
        Ok((made, shown))
    }

    /// The account of an address. Where there is none, one is made, and its first token returned: the invitation.
    /// Errors: the address is a team's.
    pub(crate) async fn account_or_invitation(
        &self,
        caller: &Caller,
        email: &Email,
    ) -> Result<(Account, Option<String>)> {
        of_a_person(email)?;
        if let Some(account) = self.store().read(|c| c.account(&NameOrId::Name(email.to_string())))? {
            return Ok((account, None));
        }
        let (account, secret) = self.invite(caller, email).await?;
        Ok((account, Some(secret)))
    }

    /// Makes an account for somebody whom the caller gave access to something.
    async fn invite(&self, caller: &Caller, email: &Email) -> Result<(Account, String)> {
        let account = self.account_record(email, None, false);
        let (token, secret) =
            self.new_token(account.id, "Invitation", Scope::Global, TokenKind::Session, Some(INVITATION));
        let entry = self.entry(caller, None, "invited", serde_json::json!({ "email": email.as_str() }));
        self.keep_account(account, token, secret, entry).await
    }

    /// Changes the caller's own account. Errors: a name or password out of bounds (200 characters at most, 12 at least);
    /// a present password that is missing or wrong; a narrow token.
    pub async fn update_account(&self, caller: &Caller, update: UpdateAccount) -> Result<Account> {
        self.whole_account(caller)?;
        let id = caller.actor.account;
        if update.name.as_ref().is_some_and(|n| n.chars().count() > MAX_NAME || n.chars().any(char::is_control)) {
            return Err(Error::invalid(format!(
                "`name` may have {MAX_NAME} characters, none of them a control character."
            )));
        }
        let hash = match update.new_password {
            Some(new) => Some(self.new_password(id, update.password, new).await?),
            None => None,
        };
        let (name, now) = (update.name, self.now());
        let changed = serde_json::json!({ "name": name.is_some(), "password": hash.is_some() });
        let entry = self.entry(caller, None, "account-changed", changed);
        let account = self
            .write_with(entry, move |c| {
                let mut account = c.account_by_id(id)?;
                if let Some(name) = name {
                    account.name = Some(name).filter(|name| !name.trim().is_empty());
                }
                account.password_hash = hash.or(account.password_hash);
                account.updated_at = now;
                c.update_account(&account)?;
                Ok(account)
            })
            .await?;
        Ok(account)
    }

    /// The hash of a new password, given the one that it replaces.
    async fn new_password(&self, id: AccountId, present: Option<String>, new: String) -> Result<String> {
        let length = new.chars().count();
        if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&length) {
            return Err(Error::invalid(format!(
                "`new_password` has {length} characters; a password has {MIN_PASSWORD} to {MAX_PASSWORD}."
            )));
        }
        let old = self.store().read(|c| c.account_by_id(id))?.password_hash;
        let _turn = HASHING.acquire().await;
        let hashed = tokio::task::spawn_blocking(move || match old {
            Some(old) if !present.is_some_and(|present| verify(&old, &present)) => Ok(None),
            _ => hash_password(&new).map(Some),
        });
        let hash = hashed.await.map_err(Error::platform)??;
        hash.ok_or_else(|| Error::invalid("`password` must be the password that you have now, beside `new_password`."))
    }

    /// A session token for somebody who was identified by other means: the socket's peer, a page's form.
    pub async fn session_for(&self, account: AccountId, description: &str) -> Result<String> {
        let (token, secret) = self.new_token(account, description, Scope::Global, TokenKind::Session, Some(SESSION));
        let shown = secret.clone();
        self.store().write(move |c| c.insert_token(&token, &secret)).await?;
        Ok(shown)
    }

    /// Makes an authorization. Errors: a scope that reaches further than the caller's own.
    pub async fn create_token(&self, caller: &Caller, new: NewToken) -> Result<(Token, String)> {
        self.may_give(caller, &new.scope)?;
        let lives = new.expires_in_seconds.map(seconds);
        let (token, secret) =
            self.new_token(caller.actor.account, &new.description, new.scope, TokenKind::Authorization, lives);
        let entry = self.entry(
            caller,
            None,
            "token-made",
            serde_json::json!({ "token": token.id, "scope": token.scope.text(), "description": token.description }),
        );
        let (kept, shown) = (token.clone(), secret.clone());
        self.write_with(entry, move |c| c.insert_token(&kept, &secret)).await?;
        Ok((token, shown))
    }

    /// The caller's tokens, oldest first.
    pub fn tokens(&self, caller: &Caller) -> Result<Vec<Token>> {
        let now = self.now();
        Ok(self.store().read(|c| c.tokens(caller.actor.account, now))?)
    }

    fn own_token(&self, caller: &Caller, id: TokenId) -> Result<Token> {
        let found = self.tokens(caller)?.into_iter().find(|t| t.id == id);
        found.ok_or_else(|| Error::missing("authorization"))
    }

    /// Changes what a token is called.
    pub async fn describe_token(&self, caller: &Caller, id: TokenId, description: &str) -> Result<Token> {
        self.whole_account(caller)?;
        let mut token = self.own_token(caller, id)?;
        token.description = description.chars().take(MAX_DESCRIPTION).collect();
        token.updated_at = self.now();
        let kept = token.clone();
        self.store().write(move |c| c.update_token(&kept, None)).await?;
        Ok(token)
    }

    /// Gives an authorization a new secret; the old one ends at once.
    pub async fn rotate_token(&self, caller: &Caller, id: TokenId) -> Result<(Token, String)> {
        let mut token = self.own_token(caller, id)?;
        self.may_give(caller, &token.scope)?;
        let (fresh, secret) = self.new_token(token.account, "", token.scope.clone(), token.kind, None);
        token.hint = fresh.hint;
        token.updated_at = fresh.updated_at;
        let (kept, shown) = (token.clone(), secret.clone());
        self.store().write(move |c| c.update_token(&kept, Some(&secret))).await?;
        Ok((token, shown))
    }

    /// Ends a token, asked for with the token `by`. Every token may end itself; others only one of the whole account.
    pub async fn revoke_token(&self, caller: &Caller, by: TokenId, id: TokenId) -> Result<Token> {
        if by != id {
            self.whole_account(caller)?;
        }
        let token = self.own_token(caller, id)?;
        let entry = self.entry(caller, None, "token-revoked", serde_json::json!({ "token": id }));
        self.write_with(entry, move |c| c.delete_token(id)).await?;
        Ok(token)
    }

    /// A token gives no more than it has itself.
    fn may_give(&self, caller: &Caller, scope: &Scope) -> Result<()> {
        self.whole_account(caller)?;
        if caller.actor.scope.covers(scope) {
            return Ok(());
        }
        Err(self.out_of_scope(caller, &format!("give the scope {}", self.scope_name(scope))))
    }

    /// Changes of an account need a token that may do everything its account may.
    pub(crate) fn whole_account(&self, caller: &Caller) -> Result<()> {
        match caller.actor.scope {
            Scope::Global | Scope::WriteProtected => Ok(()),
            _ => Err(self.out_of_scope(caller, "change your account")),
        }
    }
}

/// Errors: the address is one by which a team owns.
pub(crate) fn of_a_person(email: &Email) -> Result<()> {
    match email.team() {
        Some(team) => Err(Error::invalid(format!("{email} is the address of the team {team}, and no person's."))),
        None => Ok(()),
    }
}

fn seconds(n: u64) -> SignedDuration {
    // A hundred years stand for everything longer.
    SignedDuration::from_secs(i64::try_from(n).unwrap_or(i64::MAX).min(100 * 365 * 24 * 3600))
}

fn hint(secret: &str) -> String {
    format!("{}**********{}", &secret[..8], &secret[secret.len() - 4..])
}

fn hash_password(password: &str) -> Result<String> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = argon2::Argon2::default().hash_password(password.as_bytes(), &salt).map_err(Error::platform)?;
    Ok(hash.to_string())
}

fn verify(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|h| argon2::Argon2::default().verify_password(password.as_bytes(), &h).is_ok())
}
