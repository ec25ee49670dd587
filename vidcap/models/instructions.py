"""What a sound captioner is asked: in training any of these, afterwards the first unless the stage has a prompt."""

INSTRUCTIONS = (
    "Describe in one sentence what can be heard.",
    "What do you hear? Answer in one sentence.",
    "Listen to the sound and say what is going on.",
    "Write a short caption for this sound.",
    "Tell in a few words which sounds occur.",
    "Which events can be heard in this recording?",
    "Sum up the sound in one sentence.",
    "Give a brief account of the recording.",
    "Put what you hear into words.",
    "Say what makes the sound, and how it sounds.",
)
