//! A forge for sessions: `forge_double KIND REPOSITORIES` prints its address and serves until it is ended.

use shipway_domain::forge::ForgeKind;
use shipway_testkit::ForgeDouble;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, repositories] = arguments.as_slice() else { panic!("usage: forge_double KIND REPOSITORIES") };
    let kind = ForgeKind::parse(kind).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let double = ForgeDouble::serve(kind, listener, Some(repositories.into()));
    println!("{}", double.url());
    std::future::pending::<()>().await;
}
