//! Operations of a whole platform, with dynos and databases in memory: each test is a session.

mod addons;
mod again;
mod crashes;
mod damaged;
mod domains;
mod findings;
mod gate;
mod health;
mod leaving;
mod logs;
mod products;
mod promotions;
mod review_apps;
mod review_settings;
mod sessions;
mod settings;
mod sharing;
mod sign_offs;
mod standing;
mod time;
mod triggers;
mod upstream;
mod webhooks;
