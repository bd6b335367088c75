//! What every listener shares: HTTP and TLS on one port, certificates, early answers, listener hand-over.
