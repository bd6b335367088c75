//! Transfers: databases backed up, restored, copied. Each is an operation, so that a server that was killed goes on with
//! it; its row is what people see.
//!
//! A backup is a sealed file (see [`crate::backups`]). It belongs to the app and outlives its database, but not the app.

use crate::addons::failed;
use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::plan::{AddonPlan, Part};
use crate::ports::{AddonFailure, Caller, DatabaseOrder, Lines};
use crate::{Platform, Result};
use jiff::Timestamp;
use shipway_domain::addon::TransferKind;
use shipway_domain::admission::Trigger;
use shipway_domain::{AddonId, OperationId, TransferId};
use shipway_store::{Addon, App, Transfer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// What the address of one of our own backups begins with, as `pg:backups:restore` sends it back.
const OUR_BACKUP: &str = "shipway-backup:";
/// Longest address of a dump, in bytes.
const MAX_URL: usize = 8192;

/// What bringing a dump here may take.
const FETCH_TIME: Duration = Duration::from_secs(6 * 3600);

/// One line of what a transfer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferLine {
    /// When.
    pub at: Timestamp,
    /// What.
    pub message: String,
}

impl Platform {
    /// The transfers in an app's list, the newest first.
    pub fn transfers(&self, app: &App) -> Result<Vec<Transfer>> {
        Ok(self.store().read(|c| c.transfers(app.id))?)
    }

    /// A transfer of an app by number or id.
    pub fn transfer(&self, app: &App, which: &str) -> Result<Transfer> {
        let all = self.transfers(app)?;
        let found = all.into_iter().find(|t| t.number.to_string() == which || t.id.to_string() == which);
        let next = || format!("`heroku pg:backups -a {}` lists its backups, restores and copies.", app.name);
        found.ok_or_else(|| Error::missing_one("transfer", which, &next()))
    }

    /// What [`Self::restore`] takes for a backup of ours.
    pub fn backup_address(transfer: &Transfer) -> String {
        format!("{OUR_BACKUP}{}", transfer.id)
    }

    /// What a transfer has said so far.
    pub async fn transfer_lines(&self, transfer: &Transfer) -> Result<Vec<TransferLine>> {
        let mut text = String::new();
        let path = self.settings().home.join("outputs").join(transfer.id.to_string());
        match tokio::fs::File::open(&path).await {
            Ok(file) => {
                let mut bytes = Vec::new();
                // What the tools say is bounded by the output's own limit; a page of it is enough for people.
                file.take(1 << 20).read_to_end(&mut bytes).await.map_err(Error::platform)?;
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::platform(e)),
        }
        let line = |line: &str| match line.split_once(' ').map(|(at, rest)| (at.parse(), rest)) {
            Some((Ok(at), rest)) => TransferLine { at, message: rest.to_owned() },
            _ => TransferLine { at: transfer.updated_at, message: line.trim_start_matches([' ', '!']).to_owned() },
        };
        Ok(text.lines().map(line).collect())
    }

    /// Begins a backup of a database.
    pub async fn capture(&self, caller: &Caller, addon: &Addon) -> Result<Transfer> {
        let app = self.change_data(caller, addon, "backup").await?;
        let name = self.database_name(addon)?;
        let ends = Ends { from_name: name, to_name: "BACKUP".into(), backup: None, from: None };
        self.begin_transfer(caller, &app, TransferKind::Backup, addon, ends, None).await
    }

    /// Begins to replace a database's data by a backup of ours, or by a dump at an address elsewhere, which the transfer
    /// fetches under guard. Errors: a backup of an app that the caller may not operate, one that is not complete; an
    /// address of another kind.
    pub async fn restore(&self, caller: &Caller, addon: &Addon, source: &str) -> Result<Transfer> {
        let mut ends = Ends { from_name: "URL".into(), to_name: self.database_name(addon)?, backup: None, from: None };
        let mut url = None;
        if let Some(id) = source.strip_prefix(OUR_BACKUP) {
            let backup = self.readable_backup(caller, id).await?;
            ends.from_name = format!("b{:03}", backup.number);
            ends.backup = Some(backup.id);
        } else if source.len() <= MAX_URL && (source.starts_with("https://") || source.starts_with("http://")) {
            url = Some(source.to_owned());
        } else {
            return Err(Error::invalid(
                "The backup to restore is named by its id, such as b001 or other-app::b001, or by an http(s) address.",
            ));
        }
        let app = self.change_data(caller, addon, "restore").await?;
        self.begin_transfer(caller, &app, TransferKind::Restore, addon, ends, url.as_deref()).await
    }

    /// Begins to replace a database's data by another one's.
    pub async fn copy_database(&self, caller: &Caller, from: &Addon, to: &Addon) -> Result<Transfer> {
        if from.id == to.id {
            return Err(Error::invalid(format!("{} cannot be copied onto itself.", from.name)));
        }
        self.change_data(caller, from, "copied-from").await?;
        let app = self.change_data(caller, to, "copied-to").await?;
        let ends = Ends {
            from_name: self.database_name(from)?,
            to_name: self.database_name(to)?,
            backup: None,
            from: Some(from.id),
        };
        self.begin_transfer(caller, &app, TransferKind::Copy, to, ends, None).await
    }

    /// Asks a transfer to stop. Errors: it is over.
    pub async fn cancel_transfer(&self, caller: &Caller, transfer: &Transfer) -> Result<()> {
        if transfer.finished_at.is_some() {
            return Err(Error::conflict(format!("{} is over.", short_name(transfer))));
        }
        self.cancel(caller, transfer.operation).await
    }

    /// Removes a transfer from its app's list, a backup with its data. Errors: it is not over.
    pub async fn delete_transfer(&self, caller: &Caller, app: &App, transfer: &Transfer) -> Result<()> {
        self.admit(caller, Trigger::Addon, app).await?;
        if transfer.finished_at.is_none() {
            return Err(Error::conflict(format!(
                "{0} is not over. Cancel it first: heroku pg:backups:cancel {0} -a {1}",
                short_name(transfer),
                app.name
            )));
        }
        self.remove_backup(transfer.id).await?;
        self.inner.outputs.remove(transfer.id.0);
        let detail = serde_json::json!({ "transfer": short_name(transfer) });
        let (id, entry) = (transfer.id, self.entry(caller, Some(app), "transfer-deleted", detail));
        self.write_with(entry, move |c| c.delete_transfer(id)).await?;
        Ok(())
    }

    /// Admits and records that somebody takes a backup's data away. Errors: it is no backup, or not complete.
    pub async fn publish_backup(&self, caller: &Caller, app: &App, transfer: &Transfer) -> Result<()> {
        self.readable_backup(caller, &transfer.id.to_string()).await?;
        let detail = serde_json::json!({ "transfer": short_name(transfer) });
        let entry = self.entry(caller, Some(app), "backup-url", detail);
        self.record(entry).await?;
        Ok(())
    }

    /// A complete backup of an app that the caller may operate.
    async fn readable_backup(&self, caller: &Caller, id: &str) -> Result<Transfer> {
        let missing = || Error::missing("backup");
        let id: TransferId = id.parse().map_err(|_| missing())?;
        let backup = self.store().read(|c| c.transfer(id))?.ok_or_else(missing)?;
        let app = self.app(caller, &backup.app.into()).map_err(|_| missing())?;
        self.admit(caller, Trigger::Addon, &app).await?;
        if backup.kind != TransferKind::Backup || backup.succeeded != Some(true) {
            return Err(Error::invalid(format!("{} of {} is not a complete backup.", short_name(&backup), app.name)));
        }
        Ok(backup)
    }

    /// What people call a database: its first attachment to its own app, else its name.
    fn database_name(&self, addon: &Addon) -> Result<String> {
        let all = self.store().read(|c| c.attachments_of(addon.id))?;
        let own = all.into_iter().find(|a| a.app == addon.app);
        Ok(own.map_or_else(|| addon.name.to_string(), |a| a.name.to_string()))
    }

    async fn begin_transfer(
        &self,
        caller: &Caller,
        app: &App,
        kind: TransferKind,
        addon: &Addon,
        ends: Ends,
        url: Option<&str>,
    ) -> Result<Transfer> {
        let now = self.now();
        let row = Transfer {
            id: self.id(TransferId),
            app: app.id,
            number: 0,
            operation: self.id(OperationId),
            kind,
            addon: addon.id,
            from_name: ends.from_name,
            to_name: ends.to_name,
            backup: ends.backup,
            started_at: None,
            finished_at: None,
            canceled_at: None,
            succeeded: None,
            warnings: 0,
            source_bytes: None,
            processed_bytes: 0,
            created_at: now,
            updated_at: now,
        };
        let work = AddonPlan::Transfer { transfer: row.id, addon: addon.id, from: ends.from };
        let plan = self.plan(caller, Trigger::Addon, Part { addon: Some(work), ..Part::new(app.id) });
        let (id, url) = (row.id, url.map(str::to_owned));
        self.submit_as(row.operation, plan, move |c| c.insert_transfer(&row, url.as_deref()).map(drop)).await?;
        Ok(self.store().read(|c| c.transfer_by_id(id))?)
    }

    // ---- the step ----

    pub(crate) async fn step_transfer(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let AddonPlan::Transfer { transfer, from, .. } = part.addon()? else { return Ok(nothing()) };
        let (mut row, addon, app) = self.store().read(|c| {
            let row = c.transfer_by_id(*transfer)?;
            Ok((row.clone(), c.addon_by_id(row.addon)?, c.app_by_id(row.app)?))
        })?;
        let provider = &self.inner.parts.addons;
        // What an interrupted first run left.
        provider.abandon(row.id, addon.id).await?;
        row.started_at = row.started_at.or(Some(self.now()));
        if row.kind == TransferKind::Backup {
            row.source_bytes = Some(provider.size_bytes(addon.id).await.map_err(|e| failed(e, &addon))?);
        }
        row.updated_at = self.now();
        let begun = row.clone();
        self.store().write(move |c| c.update_transfer(&begun)).await?;
        let out: Arc<dyn Lines> = Arc::new(Timed { platform: self.clone(), output: ctx.output.clone() });
        let scratch = self.open_dump(row.id);
        out.line(&format!("Starting {} of {} to {}", row.kind, row.from_name, row.to_name));
        let said = out.clone();
        let work = Work { row: &row, addon: &addon, app: &app, from: *from, out, scratch: scratch.clone() };
        let moved = self.move_data(ctx, work).await;
        let _ = tokio::fs::remove_file(&scratch).await;
        (row.processed_bytes, row.warnings) = moved?;
        said.line(&format!("Done: {} bytes, {} warnings", row.processed_bytes, row.warnings));
        row.finished_at = Some(self.now());
        row.succeeded = Some(true);
        row.updated_at = self.now();
        Ok(Box::new(move |c| c.update_transfer(&row)))
    }

    /// Returns bytes of the dump and how many objects could not be restored.
    async fn move_data(&self, ctx: &Context, work: Work<'_>) -> Result<(u64, u64)> {
        let provider = &self.inner.parts.addons;
        let Work { row, addon, app, from, out, scratch } = work;
        let mut source_bytes = None;
        let order = |addon: &Addon, source_bytes: Option<u64>| -> Result<DatabaseOrder> {
            let config = self.store().read(|c| c.addon_config(addon.id))?;
            let (transfer, uid_block, file) = (row.id, app.uid_block, scratch.clone());
            Ok(DatabaseOrder { transfer, app: app.id, uid_block, addon: addon.id, config, file, source_bytes })
        };
        let source = from.map(|from| self.store().read(|c| c.addon_by_id(from))).transpose()?;
        let read = if row.kind == TransferKind::Backup { Some(addon) } else { source.as_ref() };
        if let Some(read) = read {
            source_bytes = Some(provider.size_bytes(read.id).await.map_err(|e| failed(e, read))?);
            let dumped = provider.dump(&order(read, source_bytes)?, out.clone(), ctx.cancel.clone()).await;
            dumped.map_err(|e| failed(e, read))?;
        } else if let Some(backup) = row.backup {
            source_bytes = self.store().read(|c| c.transfer(backup))?.and_then(|backup| backup.source_bytes);
            self.unseal_backup(backup, &scratch).await?;
        } else {
            let url = self.store().read(|c| c.transfer_source(row.id))?;
            let url = url.ok_or_else(|| Error::platform("a restore without a source"))?;
            tokio::select! {
                fetched = self.fetch_dump(&url, &scratch, &*out) => fetched?,
                () = ctx.cancel.cancelled() => return Err(failed(AddonFailure::Cancelled, addon)),
            }
        }
        if row.kind == TransferKind::Backup {
            return Ok((self.seal_backup(row.id, &scratch).await?, 0));
        }
        let bytes = tokio::fs::metadata(&scratch).await.map_err(Error::platform)?.len();
        let restored = provider.restore(&order(addon, source_bytes)?, addon.plan, out, ctx.cancel.clone()).await;
        Ok((bytes, restored.map_err(|e| failed(e, addon))?))
    }

    /// Brings a dump from a server elsewhere: over https and from the public internet, wherever that server leads to.
    async fn fetch_dump(&self, url: &str, into: &Path, out: &dyn Lines) -> Result<()> {
        let _turn = self.turn_of_dump(out).await?;
        let parts = &self.inner.parts;
        let most = parts.addons.most_dump_bytes()?;
        self.make_open_dump(into).await?;
        let fetched = parts.forges.download(url, into, most, FETCH_TIME).await?;
        let bytes = fetched.map_err(|why| Error::invalid(format!("The dump could not be fetched: {why}.")))?;
        out.line(&format!("Fetched a dump of {bytes} bytes"));
        Ok(())
    }

    /// What was read stays as it was, what was written too: a restore replaces the data in its last moment.
    pub(crate) async fn undo_transfer(&self, ctx: &Context, part: &Part, error: &str) -> Result<Effect> {
        let AddonPlan::Transfer { transfer, addon, .. } = part.addon()? else { return Ok(nothing()) };
        tracing::info!(transfer.id = %transfer, why = error, "a transfer failed");
        self.inner.parts.addons.abandon(*transfer, *addon).await?;
        self.remove_backup(*transfer).await?;
        let Some(mut row) = self.store().read(|c| c.transfer(*transfer))? else { return Ok(nothing()) };
        let cancelled = self.store().read(|c| c.operation(ctx.operation))?.cancel;
        let now = self.now();
        row.finished_at = Some(now);
        row.canceled_at = cancelled.then_some(now);
        row.succeeded = Some(false);
        row.updated_at = now;
        Ok(Box::new(move |c| c.update_transfer(&row)))
    }
}

/// The two ends of a transfer, for people and for its step.
struct Ends {
    from_name: String,
    to_name: String,
    backup: Option<TransferId>,
    from: Option<AddonId>,
}

/// What a transfer's step works with.
struct Work<'a> {
    row: &'a Transfer,
    addon: &'a Addon,
    app: &'a App,
    from: Option<AddonId>,
    out: Arc<dyn Lines>,
    /// A dump on its way.
    scratch: PathBuf,
}

/// `b001`, `r002`, `c003`.
pub(crate) fn short_name(transfer: &Transfer) -> String {
    format!("{}{:03}", transfer.kind.letter(), transfer.number)
}

/// Puts the time before each line of a transcript.
struct Timed {
    platform: Platform,
    output: Option<Arc<crate::output::Output>>,
}

impl Lines for Timed {
    fn line(&self, line: &str) {
        if let Some(output) = &self.output {
            output.line(&format!("{} {line}", self.platform.now()));
        }
    }
}
