// Package media fetches what events only name and keeps it sealed: a Client that asks public addresses
// only, bounded in size and time, and a Bucket (gocloud.dev/blob) of objects that carry their own wrapped
// key.
//
// Addresses of attachments are chosen by strangers. So nothing here trusts a name: what is dialled is
// checked after it was resolved, for every connection and every redirect, and no proxy stands between.
package media
