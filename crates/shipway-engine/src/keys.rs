//! SSH public keys of accounts.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Platform, Result};
use shipway_domain::KeyId;
use shipway_store::{Key, StoreError, hex};

impl Platform {
    /// Adds an SSH public key. Errors: something that is not one; one that somebody has.
    pub async fn add_key(&self, caller: &Caller, public_key: &str) -> Result<Key> {
        self.whole_account(caller)?;
        let mut words = public_key.split_whitespace();
        let (kind, body, comment) = (words.next(), words.next(), words.collect::<Vec<_>>().join(" "));
        let known = [
            "ssh-rsa",
            "ssh-ed25519",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
            "sk-ssh-ed25519@openssh.com",
            "sk-ecdsa-sha2-nistp256@openssh.com",
        ];
        let (Some(kind), Some(body)) = (kind.filter(|k| known.contains(k)), body) else {
            return Err(Error::invalid(
                "That is not an SSH public key. It starts with its type, like `ssh-ed25519 AAAA…`: send the file that ends in .pub.",
            ));
        };
        let bytes = decode_base64(body).filter(|b| b.len() > 16 && b.get(4..4 + kind.len()) == Some(kind.as_bytes()));
        let bytes = bytes.ok_or_else(|| Error::invalid("The key's body is damaged. Send the whole .pub file."))?;
        let key = Key {
            id: self.id(KeyId),
            account: caller.actor.account,
            public_key: format!("{kind} {body} {comment}").trim_end().to_string(),
            fingerprint: hex(&shipway_store::sha256(&bytes)[..16])
                .as_bytes()
                .chunks(2)
                .map(|p| String::from_utf8_lossy(p).into_owned())
                .collect::<Vec<_>>()
                .join(":"),
            comment,
            created_at: self.now(),
        };
        let (kept, account) = (key.clone(), caller.actor.account);
        let written = self.store().write(move |c| {
            let own = c.keys_of(account)?.into_iter().any(|k| k.fingerprint == kept.fingerprint);
            if own { Ok(false) } else { c.insert_key(&kept).map(|()| true) }
        });
        match written.await {
            Ok(true) => Ok(key),
            Ok(false) => Err(Error::invalid(format!(
                "You have the key {} already. Yours are listed by: heroku keys",
                key.fingerprint
            ))),
            Err(StoreError::Taken(_)) => Err(Error::invalid(format!(
                "Another account here has the key {}. Make one of your own, and add that: ssh-keygen -t ed25519",
                key.fingerprint
            ))),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes one of the caller's keys, by id, fingerprint or comment.
    pub async fn delete_key(&self, caller: &Caller, which: &str) -> Result<Key> {
        self.whole_account(caller)?;
        let keys = self.store().read(|c| c.keys_of(caller.actor.account))?;
        let found = keys
            .into_iter()
            .find(|k| k.id.to_string() == which || k.fingerprint == which || (!which.is_empty() && k.comment == which));
        let key = found.ok_or_else(|| Error::missing_one("key", which, "`heroku keys` lists yours."))?;
        let id = key.id;
        self.store().write(move |c| c.delete_key(id)).await?;
        Ok(key)
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
