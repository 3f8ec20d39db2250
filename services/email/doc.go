// Package email is the adapter of mail. A connection is one mailbox. Mail comes in as Postmark's webhook, as raw
// RFC 5322 by POST, or through the package's own SMTP or LMTP listener; all three become a letter, and what a
// letter means is the same for all. Mail goes out through a submission server or Postmark's API.
//
// What is guaranteed:
//
//   - A mail is the same event whichever way it comes, and however often: its key is a keyed hash of Message-ID, sender,
//     Date and what it holds. So a Message-ID that is missing or used again loses nothing.
//   - Which conversation a mail belongs to is a function of the mail alone, so any order of arrival gives the same
//     conversations: a signed token in an address it was sent to, else one in a Message-ID of ours that it answers, is
//     the conversation itself; else the first of its References, else of In-Reply-To, else its own Message-ID names
//     the thread of its sender.
//   - A token that was not made here is ignored.
//   - A mail is ordered by when it came. Its Date is the sender's word: one in the future would stay the newest for ever.
//     Of two copies that came by different ways the mesh takes the earlier time, so order commutes as well.
//   - From proves nothing: what the trusted host found of SPF, DKIM and DMARC is kept beside the mail.
//   - Nothing in a mail makes the adapter panic, and nothing it can't read is lost: a part that can't be decoded is an
//     attachment, a mail that can't be taken apart is one as a whole.
//
// What is left out, and why: that a mail of the same contact with the same subject in the last days belongs to the same
// conversation depends on what came before, so that two orders of arrival would give two answers. A mail that
// names only its parent (In-Reply-To without References), and that parent neither ours nor the first of its thread,
// begins a conversation: joining it would need one that two keys name. List-Unsubscribe belongs on marketing mail,
// which the mesh has no way to send.
package email
