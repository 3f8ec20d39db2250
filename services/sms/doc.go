// Package sms is the adapter of text messages, and of WhatsApp through the same provider. A provider is
// one file (twilio.go, vonage.go) that verifies, reads, checks, sends and fetches; what the texts and numbers
// mean is the same for all and lies beside it: consent words, number forms, segments, WhatsApp's window.
//
// A connection is one number: webhooks name it in their path, never in what they carry, because numbers of
// a pool share everything else. Not every provider gives the time of a message, so its order is the time of
// receipt.
package sms
