// Package provider speaks to providers for connect: how an account's owner is asked for it, whether credentials
// work, how they are kept fresh and taken back. One file per provider; a channel without one is connected with
// pasted credentials that nobody checks.
//
// What is guaranteed:
//
//   - Every call ends with its context. Nothing is called twice here: who calls decides about that.
//   - An error tells a word of the provider's vocabulary, or of ours, and never a text, an address or a secret.
//   - Credentials are called void only where the provider surely says so: an outage never looks like that.
//   - Of what a provider gives, only what sending and receiving need is handed on.
package provider
