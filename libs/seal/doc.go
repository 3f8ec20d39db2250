// Package seal seals and opens personal data. Adapters seal it under a data key that belongs to one
// subject; destroying the key in the registry makes the person unreadable everywhere.
//
// What is guaranteed:
//
//   - A part opens only with the key, in the workspace, for the subject and category, and on the record
//     (Origin) that it was sealed for. Moved or altered it is ErrForged.
//   - A plain key that the Client was given is not used later than Config.TTL after the request for it
//     was sent, whatever the network, the clocks or the registry do meanwhile. Nothing extends it.
//   - It fails closed: a registry that can't be asked is ErrUnavailable, and nothing is opened.
//
// Callers that ask at the same time share calls to the registry; callers that ask for the same thing
// share its answer.
package seal
