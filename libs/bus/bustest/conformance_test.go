package bustest

import "testing"

func TestEmbeddedBroker(t *testing.T) { Run(t, EmbeddedCluster) }

func TestKafka(t *testing.T) {
	KafkaCluster(t) // skips without one
	Run(t, KafkaCluster)
}
