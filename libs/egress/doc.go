// Package egress is the one sender and fetcher of every adapter. It has no database: what it must remember
// lies in the metadata of its Kafka commits.
//
// Sending. The conversation service keeps one command of a conversation outstanding, so order is its
// affair; egress sees to it that no command is carried out twice, that none is lost without a word, and
// that each ends in one outcome. For every command, in the order of its partition:
//
//  1. A command whose position is not above the last one taken is dropped: the relay may publish twice.
//     The last position travels in the commit's metadata, so it outlives the process and the generation.
//  2. It is opened and paced. The registry being away holds the partition, and nothing else.
//  3. `sending` is published, whatever will become of it.
//  4. Offset and position are committed. After a commit that failed, or whose answer was lost, nothing is
//     called and nothing reported: another member may have the command, or nobody (then the conversation
//     service's sweeper ends it as unknown). The member leaves the group, so that a commit still on its
//     way meets a generation that is over and can't move the offset back.
//  5. Only then is the provider called, or any other outcome reported, by workers that belong to the
//     process and not to the generation: a rebalance neither waits for a slow provider nor cuts it off.
//
// A call that has not begun when its command is too old, or when the process is to stop, is not made:
// `deferred`. What the provider surely did not take is tried again or deferred; what nobody can know is
// `unknown`. An outcome is reported for as long as it takes, and holds its place among a bounded number of
// calls meanwhile: where reports can't go out, nothing new is taken in.
//
// Fetching. Attachments that events name are fetched from public addresses, sealed and put into the
// bucket; profiles are asked for, once a day and person. What comes of it goes back onto the inbound topic
// as events of its own.
package egress
