// Package connect keeps workspaces, members, API keys, apps and connections, and tells every other service
// of them on the compacted topics apps, connections and access.
//
// What is guaranteed:
//
//   - The database decides, the topics follow: a change and its mark in the outbox are one transaction. A
//     request is answered once its change was published, or after two seconds without: then the relay
//     publishes it as soon as the brokers are back.
//   - Secrets of providers are sealed with the channel's keeper before they are stored, are never given
//     back, and leave database and topic when an account is disconnected or its tokens are revoked. What buys
//     new tokens is never published.
//   - An account's owner connects it through a link: in one browser, once, within ten minutes. An answer that
//     another browser brings, that was used, or that nobody waits for changes nothing.
//   - Credentials are bought anew by one replica at a time, long before they end. What an owner granted is
//     taken back at the provider when the account is disconnected; an outage there keeps nobody waiting.
//   - A provider's outage never changes a connection's status: only credentials that it surely calls void do.
//   - An account is connected in one workspace at a time. Connecting it again keeps the connection's id, and
//     so its conversations.
//   - What a provider says of credentials (revoked, invalid) only counts for the credentials it could have
//     meant: those given before. Events may come in any order and any number of times.
//   - What is set at a shop is stored nowhere here, and asked of it once, within a deadline.
//   - What belongs to another workspace is 404.
package connect
