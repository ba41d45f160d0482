package configs

import "github.com/counterpoint-ml/counterpoint/data"

const similar = "Retrieve semantically similar text."

// Tasks are mteb's tasks that are known by name, with the instructions that LLM2Vec and the paper evaluate them under
// (E5-mistral's, where those agree).
var Tasks = []Task{
	{Paper: true, Name: "ArguAna", Kind: data.BEIRTask, Identical: true, Instruction: "Given a claim, find documents that refute the claim"},
	{Paper: true, Name: "Banking77Classification", Kind: data.ClassificationTask, Instruction: "Given a online banking query, find the corresponding intents"},
	{Paper: true, Name: "BiorxivClusteringS2S", Kind: data.ClusteringTask, Instruction: "Identify the main category of Biorxiv papers based on the titles"},
	{Paper: true, Name: "EmotionClassification", Kind: data.ClassificationTask, Instruction: "Classify the emotion expressed in the given Twitter message into one of the six emotions: anger, fear, joy, love, sadness, and surprise"},
	{Paper: true, Name: "MassiveIntentClassification", Kind: data.ClassificationTask, Instruction: "Given a user utterance as query, find the user intents"},
	{Paper: true, Name: "MedrxivClusteringS2S", Kind: data.ClusteringTask, Instruction: "Identify the main category of Medrxiv papers based on the titles"},
	{Paper: true, Name: "NFCorpus", Kind: data.BEIRTask, Instruction: "Given a question, retrieve relevant documents that best answer the question"},
	{Paper: true, Name: "SciDocsRR", Kind: data.RerankTask, Instruction: "Given a title of a scientific paper, retrieve the titles of other relevant papers"},
	{Paper: true, Name: "SciFact", Kind: data.BEIRTask, Instruction: "Given a scientific claim, retrieve documents that support or refute the claim"},
	{Paper: true, Name: "SICK-R", Kind: data.STSTask, Instruction: similar},
	{Paper: true, Name: "SprintDuplicateQuestions", Kind: data.PairsTask, Instruction: "Retrieve duplicate questions from Sprint forum"},
	{Paper: true, Name: "StackOverflowDupQuestions", Kind: data.RerankTask, Instruction: "Retrieve duplicate questions from StackOverflow forum"},
	{Paper: true, Name: "STS17", Kind: data.STSTask, Instruction: similar},
	{Paper: true, Name: "STSBenchmark", Kind: data.STSTask, Instruction: similar},
	{Paper: true, Name: "TwentyNewsgroupsClustering", Kind: data.ClusteringTask, Instruction: "Identify the topic or theme of the given news articles"},

	{Name: "BIOSSES", Kind: data.STSTask, Instruction: similar},
	{Name: "STS12", Kind: data.STSTask, Instruction: similar},
	{Name: "STS13", Kind: data.STSTask, Instruction: similar},
	{Name: "STS14", Kind: data.STSTask, Instruction: similar},
	{Name: "STS15", Kind: data.STSTask, Instruction: similar},
	{Name: "STS16", Kind: data.STSTask, Instruction: similar},
	{Name: "STS22", Kind: data.STSTask, Instruction: similar},
	{Name: "SummEval", Kind: data.SummaryTask, Instruction: "Given a news summary, retrieve other semantically similar summaries"},
	{Name: "AskUbuntuDupQuestions", Kind: data.RerankTask, Instruction: "Retrieve duplicate questions from AskUbuntu forum"},
	{Name: "TwitterSemEval2015", Kind: data.PairsTask, Instruction: "Retrieve tweets that are semantically similar to the given tweet"},
	{Name: "TwitterURLCorpus", Kind: data.PairsTask, Instruction: "Retrieve tweets that are semantically similar to the given tweet"},
	{Name: "ImdbClassification", Kind: data.ClassificationTask, Instruction: "Classify the sentiment expressed in the given movie review text from the IMDB dataset"},
	{Name: "MTOPIntentClassification", Kind: data.ClassificationTask, Instruction: "Classify the intent of the given utterance in task-oriented conversation"},
	{Name: "MassiveScenarioClassification", Kind: data.ClassificationTask, Instruction: "Given a user utterance as query, find the user scenarios"},
	{Name: "FiQA2018", Kind: data.BEIRTask, Identical: true, Instruction: "Given a financial question, retrieve user replies that best answer the question"},
	{Name: "SCIDOCS", Kind: data.BEIRTask, Instruction: "Given a scientific paper title, retrieve paper abstracts that are cited by the given paper"},
	{Name: "TRECCOVID", Kind: data.BEIRTask, Instruction: "Given a query on COVID-19, retrieve documents that answer the query"},
	{Name: "Touche2020", Kind: data.BEIRTask, Instruction: "Given a question, retrieve detailed and persuasive arguments that answer the question"},
	{Name: "QuoraRetrieval", Kind: data.BEIRTask, Identical: true, Instruction: "Given a question, retrieve questions that are semantically equivalent to the given question"},

	{Name: "Core17InstructionRetrieval", Kind: data.FollowIRTask, Instruction: "Retrieve text based on user query."},
	{Name: "News21InstructionRetrieval", Kind: data.FollowIRTask, Instruction: "Retrieve text based on user query."},
	{Name: "Robust04InstructionRetrieval", Kind: data.FollowIRTask, Instruction: "Retrieve text based on user query."},
	{Name: "BrightRetrieval", Kind: data.BrightTask, Instruction: "Given a problem, retrieve the relevant documents that help solve the given problem"},
}
