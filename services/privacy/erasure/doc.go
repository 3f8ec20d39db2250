// Package erasure carries out a person's request to be erased, to the signed certificate.
//
// A request goes through fixed steps; each is kept in the database before the next begins, each may be
// done again, so that a restart at any point resumes there:
//
//	freezing    the registry freezes the contact's subjects and writes the erasure ledger; nothing
//	            follows before the ledger entry is acknowledged
//	closing     the contact is closed to new links; a subject linked before is frozen too
//	waiting     until no cache of any process can hold a key: the cache TTL and 15 seconds
//	erasing     every holder deletes, and answers with counts; a failed one is named and asked again
//	destroying  the registry destroys the data keys
//	certifying  the certificate is made and signed
//
// No request is completed without every holder's answer, and a holder that found more than it deleted
// has failed.
package erasure
