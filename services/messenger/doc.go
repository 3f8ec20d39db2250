// Package messenger is the adapter of Facebook Messenger: the signed webhooks of a Meta app become events of the mesh,
// and replies go out through the Send API.
//
// A connection is a Page. A person is known to it by a page-scoped id (PSID), and a conversation is what the Page and
// one person write to each other. Every event carries Meta's own time in milliseconds, which gives it its order.
// What the Page sends comes back as an echo: our own tells, by the metadata that it was sent with, which part of
// which message Meta took; any other is a message that was sent elsewhere.
//
// Beside webhooks come callbacks about who connected Pages: they have taken the app off their account, or ask for the
// deletion of their data. These have a signature and addresses of their own (callback.go).
//
// The rules come from https://developers.facebook.com/documentation/business-messaging/messenger-platform and the
// pages of the webhook events there.
package messenger
