//! The doors, tried with the clients that come through them: git, curl, and the Heroku CLI where there is one.

mod boards;
mod browser;
mod carrying;
mod compare;
mod deploys;
mod ended;
mod git;
mod heroku;
mod leaving;
mod lengths;
mod own;
mod pages;
mod promotions;
mod run;
mod setup;
mod sign_offs;
mod stage;
mod streams;
mod tunnels;
mod upstream;
mod webhooks;
