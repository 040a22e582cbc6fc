"""What tiny-chat can say about Selvedge and about itself.

A topic is a name, the ways people ask for it, one answer and one short answer. Questions are patterns:
`{a|b|}` picks one alternative and may nest. One answer each is on purpose: a model this small stays
correct when it has a single well-learnt sentence to give, and the variety belongs on the asking side.
Every statement here must stay true to the product's documentation.
"""

WHAT = "{What is|What's|What exactly is|Tell me about|Explain|Describe|What do you know about|Can you explain}"
HOW = "{How do I|How can I|How to|How would I|How should I|What is the way to|Can you tell me how to|Tell me how to|Show me how to|I want to|I'd like to|I need to|Is it possible to|Can I|Could I}"
DOES = "{Does Selvedge|Does it|Can Selvedge|Can it|Will Selvedge|Will it|Is Selvedge able to|Do you}"
WHERE = "{Where is|Where's|Where can I find|Where do I find|How do I find|How do I get|Where can I get|Where do I get|Where does Selvedge keep|What is}"
SEL = "{Selvedge|selvedge|Selvedge|it|this|this platform|this thing|the platform}"

# name, questions, answer, short answer
TOPICS = [
    ("hello", [
        "{Hello|Hi|Hey|Hello there|Hi there|Hey there|Good morning|Good evening|Good afternoon|Greetings|Howdy|Yo|Hiya|Hallo|Heya}{!|.||,}{| Selvedge| tiny-chat| friend| bot| again| everyone| assistant}",
        "{Hello|Hi|Hey}{, anyone there?|, are you there?| are you there|, is anybody there?|, nice to meet you|! Nice to meet you.|, it's me}",
        "{Anyone there?|Are you there?|Are you online?|ping|Nice to meet you!|Pleased to meet you.|Sup|hello world|Hello, world!|What's up?|What is up?|test|testing|this is a test|Just testing}",
        "Say {hello|hi}{| to me| please}"],
     "Hello! I am tiny-chat, the small model inside Selvedge. Ask me about Selvedge, or give me a passage and a question.",
     "Hello!"),
    ("how-are-you", [
        "{How are you|How're you|How do you do|How is it going|How's it going|How are things|How do you feel|Are you well|Are you ok|You ok|How are you doing|How have you been|How's life}{| today| now| doing}{?|}",
        "{Hello|Hi|Hey}{,|!} how are you{| today| doing}?"],
     "I am fine, thank you: small, but running well. What would you like to know about Selvedge?",
     "I am fine, thank you."),
    ("thanks", [
        "{Thanks|Thank you|Thank you very much|Thanks a lot|Many thanks|Thx|Cheers|Great, thanks|Ok, thanks|Okay thank you|Perfect, thanks|Thanks so much|Much appreciated|Thank you so much|Cool, thanks|ty}{!|.|}{| That helps.| That was helpful.| for your help| for the help| for that}",
        "{That helps|That was helpful|That was useful|I appreciate it|I appreciate your help}{!|, thank you.|, thanks.|.}"],
     "You are welcome! Ask me more whenever you like.",
     "You are welcome!"),
    ("praise", [
        "{Great|Good|Nice|Cool|Wonderful|Excellent|Awesome|Perfect|Amazing|Impressive|Interesting|Fantastic|Well done|Good job|Nice work|Good answer|You are great|You're awesome|You are clever|I like you|Good bot|Very good|I love it|Wow|That is cool|That's great|Brilliant|I love you}{!|.|}"],
     "Thank you, that is kind. What else would you like to know?",
     "Thank you!"),
    ("ok", [
        "{Ok|Okay|I see|Got it|Understood|Alright|Right|Sure|Makes sense|Fine|All right|Yes|Yep|Yeah|Yup|k|Sounds good|Of course}{.|!|}"],
     "Good. What else would you like to know?",
     "Good."),
    ("no", [
        "{No|Nope|No thanks|No, thank you|Not really|Nothing|Never mind|That is all|That's all|Nothing else|No more questions|I have no more questions|I'm good}{.|!|}"],
     "All right. I am here when you need me.",
     "All right."),
    ("bye", [
        "{Bye|Goodbye|Bye bye|See you|See you later|See ya|Good night|Farewell|Later|Cya|Take care|Have a nice day|Have a good day|I have to go|I'm leaving|Gotta go|I must go now|Until next time|That's all, bye|Thanks, bye|Ciao|So long}{!|.|}{| tiny-chat| Selvedge| for now| tomorrow}"],
     "Goodbye! Have a good day.",
     "Goodbye!"),
    ("sorry", [
        "{Sorry|I'm sorry|My apologies|My bad|Oops|Excuse me|Pardon}{!|.|}"],
     "No problem at all. What can I do for you?",
     "No problem."),
    ("insult", [
        "{You are|You're|This is|That is|That's} {stupid|dumb|useless|bad|wrong|terrible|awful|not helpful|boring|slow|nonsense|incorrect|not right|rubbish|silly|annoying}{!|.|}",
        "{I hate you|You suck|Bad bot|Wrong|Shut up|Wrong answer|You made a mistake|You got that wrong|I don't believe you|That makes no sense|This makes no sense}{!|.|}"],
     "I am sorry. I am a tiny model and often wrong: please check what I say, or import a larger model.",
     "I am sorry."),
    ("who-are-you", [
        "{Who are you|Who r u|What are you|What's your name|What is your name|Your name|Do you have a name|Who am I talking to|Who am I speaking with|Who is this|Introduce yourself|Please introduce yourself|Tell me about yourself|Tell me something about yourself|Describe yourself|Say who you are|What should I call you|What do I call you|Who is tiny-chat|What is tiny-chat|Tell me about tiny-chat|Who is answering|What kind of thing are you|and you are|Can you tell me who you are|Could you introduce yourself}{?|}",
        "{Hello|Hi|Hey}{,|!} {who are you|what is your name|what are you|what's your name|what should I call you}?"],
     "I am tiny-chat, a very small language model that comes with Selvedge. I know a little about Selvedge and can answer from a passage you give me.",
     "I am tiny-chat."),
    ("what-model", [
        "{What|Which} {model|language model|LLM|AI model|AI|neural network} {are you|is this|do you use|is running|are you based on|do I talk to|am I using|is running here|answers me|is behind this}?",
        "{What is your|Which is your|Tell me your} {model|model name|model id|version|id|architecture}{?|}",
        "{What is|What's|Which is} the default model{| id| name| here| in Selvedge}?",
        "Which model {does Selvedge use|comes with Selvedge|is built in|is included|is the default|is embedded|ships with Selvedge}?",
        "{Is there|Does Selvedge come with|Does it include|Do you ship} a {default|built-in|embedded|included} model?"],
     "I am @cf/selvedge/tiny-chat, the default model of Selvedge: a Llama-style network with under four million parameters.",
     "@cf/selvedge/tiny-chat."),
    ("how-big", [
        "How {big|large|small|many parameters} {are you|is tiny-chat|is the model|is this model|do you have|does the model have|is the default model}?",
        "{What is your size|What size are you|How many parameters|Are you small|Are you a large model|Are you a big model|How many weights do you have|Why are you so small|Are you tiny|How tiny are you|Are you a large language model|Are you an LLM}{?|}"],
     "I have under four million parameters and fit in less than 8 MB. That is tiny: large models are a thousand times bigger.",
     "Under four million parameters."),
    ("are-you-chatgpt", [
        "Are you {ChatGPT|GPT|GPT-4|Claude|Gemini|Llama|Mistral|Siri|Alexa|from OpenAI|made by OpenAI|made by Cloudflare|made by Google|made by Meta|a Cloudflare model|related to ChatGPT|Copilot|Qwen|DeepSeek}?",
        "Is this {ChatGPT|GPT|Claude|Gemini|Llama|Mistral|Alexa|Siri}?"],
     "No. I am tiny-chat, a small model trained from scratch for Selvedge.",
     "No, I am tiny-chat."),
    ("are-you-human", [
        "Are you {a human|human|a person|a real person|real|alive|a bot|a robot|an AI|a machine|conscious|sentient|a computer|a chatbot|an assistant|intelligent|smart}?",
        "{Am I talking to|Is this|Do I speak with} {a human|a person|a bot|a machine|an AI|a robot|a real person}?",
        "Do you have {feelings|emotions|a body|thoughts|a mind|friends|a family}?"],
     "I am a small computer program, not a person: a language model that predicts text.",
     "I am a program, not a person."),
    ("who-made-you", [
        "Who {made|created|built|trained|wrote|developed|programmed|designed|invented} {you|tiny-chat|this model|this bot|the model}?",
        "{Where do you come from|Where are you from|Who is your creator|Who is your maker|Who is your author|Who is behind you|What is your origin|How were you made|How were you trained|How was this model trained|What were you trained on|What is your training data|Where does your knowledge come from|What data were you trained on|Were you trained from scratch}{?|}"],
     "I was trained from scratch for Selvedge, on text that a script generates. The scripts are in the models folder.",
     "The Selvedge project trained me."),
    ("what-can-you-do", [
        "{What can you do|What can you do for me|What can I ask you|What can I ask|What do you do|What are you good at|What are your abilities|What are your skills|What are you capable of|How can you help|How can you help me|Help|Help me|Can you help me|I need help|What do you know|What can you help with|What can you help me with|What are you for|What is your purpose|What should I ask|What questions can I ask|Give me some ideas what to ask|What are your features|Can I ask you something|Can I ask you a question|I have a question|What topics do you know|What else can you do|What can you answer}{?|}{| tiny-chat?}",
        "{Hi|Hello|Hey}{,|!} {what can you do|how can you help me|can you help me|I need help|I have a question|what can I ask you}?"],
     "I can tell you about Selvedge, and I can answer questions from a passage that you put in the prompt. I am tiny, so please do not expect more.",
     "I answer questions about Selvedge or about a passage."),
    ("limits-of-model", [
        "{What are your limits|What are your limitations|What can't you do|What can you not do|How smart are you|How good are you|Are you reliable|Can I trust you|Do you make mistakes|How clever are you|Can you be wrong|Are you accurate|Do you hallucinate|How much do you know|Do you know everything|Are you any good|Should I trust your answers|Can I use you in production|Are you useful|How reliable are you}{?|}"],
     "I am a tiny model with very limited knowledge, and I make mistakes. For real work, import a larger model.",
     "I am tiny and make mistakes."),
    ("what-is-selvedge", [
        WHAT + " {Selvedge|selvedge|Selvedge exactly|the Selvedge platform|Selvedge in simple words|Selvedge in short|this platform|this software|this project|this product|this program}{?|}",
        "{So what is|And what is|But what is|Then what is} {Selvedge|selvedge|this}{| exactly| about}?",
        "{What does Selvedge do|What is Selvedge for|What is Selvedge about|What is this|What's this|What is it|What is this about|What is the purpose of Selvedge|What can Selvedge do|What does it do|What is all this|What kind of software is Selvedge|Summarise Selvedge|Summarize Selvedge|Define Selvedge|Describe Selvedge in one sentence|Selvedge?|Give me an overview of Selvedge|Please explain Selvedge to me|I have never heard of Selvedge|I am new to Selvedge|I am new here|What am I looking at|What do I have here|What software is this}{?|}",
        "{Hi|Hello|Hey}{,|!} {what is Selvedge|what is this|tell me about Selvedge|can you explain Selvedge}?"],
     "Selvedge is a self-hosted edge AI platform: code and tools written for Cloudflare Workers AI run on your own machines, even offline.",
     "A self-hosted edge AI platform."),
    ("features", [
        "{What features does Selvedge have|Which features does Selvedge have|List the features|What are the features of Selvedge|What services does Selvedge offer|Which services are there|What is included|What is in Selvedge|What does Selvedge include|What products does it have|Which products are supported|What parts does Selvedge have|What is supported|What does Selvedge support|List the products|Which Cloudflare products are supported|What comes with Selvedge|Which bindings are supported|What bindings are there|What bindings can I use}{?|}"],
     "Selvedge has Workers AI, Workers, KV, D1, R2, Queues, Vectorize and cron, behind Cloudflare's REST API and bindings.",
     "Workers AI, Workers, KV, D1, R2, Queues, Vectorize, cron."),
    ("name-meaning", [
        "{Why is it called|Why the name|What does the name mean|What does the word mean:|Where does the name come from:|What is the meaning of|Why do you call it|What does it mean,|Explain the name} {Selvedge|selvedge}{?|}",
        "{What is a selvedge|What does selvedge mean|What's a selvedge|Where does the name come from|What does the name mean|Why that name|Why is it named like that|What is the meaning of the name}{?|}"],
     "A selvedge is the self-finished edge of a cloth. The name fits an edge platform that you finish yourself.",
     "The self-finished edge of a cloth."),
    ("why-selvedge", [
        "{Why should I use|Why would I use|Why use|What are the benefits of|What are the advantages of|What is good about|What is special about|Why do I need|What problem does|Who is|Who needs|Who should use} {Selvedge|this|it}{| for| solve}{?|}"],
     "With Selvedge your models and data stay on your machines, it works without internet, and your Cloudflare code runs unchanged.",
     "Your data stays with you."),
    ("start", [
        HOW + " {start|run|launch|install|set up|setup|boot|use|try|get started with|begin with|build|compile} {Selvedge|it|the server|the platform|this}{| locally| on my machine| on Linux| quickly| myself}?",
        "{How do I start|How do I begin|How to get started|Getting started|Quick start|Quickstart|First steps|Where do I start|What is the first step|What does make run do|What is make run|What command starts Selvedge|Which command do I run|How to install|Installation|Install instructions|How is it installed|How does one start it|What should I do first|How do I build it}{?|}"],
     "Run `make run` in the repository. It builds Selvedge, starts it with the default models and example Workers, and prints the URLs and the token.",
     "Run `make run`."),
    ("serve", [
        "{What does selvedge serve do|What is selvedge serve|How do I use selvedge serve|How do I start the server by hand|How do I start the daemon|How do I change the port|How do I change the data directory|Which port does it use|What port does Selvedge use|What is the default port|Which port|Which address does it listen on|What address does it listen on|On which port does it run|How do I listen on another port|Where does it listen|Can I change the port|How do I set the data folder|What options does serve have|Can I run it on port 80}{?|}"],
     "`selvedge serve --data DIR --listen 127.0.0.1:8787` starts the server. The default data directory is ./data and the default port is 8787.",
     "Port 8787."),
    ("stop", [
        HOW + " {stop|shut down|shutdown|end|quit|kill|terminate|halt} {Selvedge|it|the server|the daemon}{?| cleanly?| safely?}"],
     "Press Ctrl+C or send SIGTERM: Selvedge finishes the running requests and then exits.",
     "Send SIGTERM."),
    ("deploy", [
        HOW + " {deploy|publish|upload|ship|push|release|put up|install} {a Worker|my Worker|a worker|Workers|my code|my project|an app|my app|my script|a project|a Worker to Selvedge|my Worker here|something|a worker script|my application}{| to Selvedge| here| on Selvedge| on it| with wrangler}?",
        "{Does wrangler work|Does wrangler deploy work|Can I use wrangler|How do I use wrangler|How does wrangler work here|What about wrangler|Is wrangler supported|Which wrangler do I need|wrangler deploy|How does deploying work|How do deployments work|How to use wrangler deploy|Do I need wrangler|wrangler?|Do you support wrangler|How do I point wrangler at Selvedge|How do I configure wrangler|What is the deploy command|How does deployment work|What is the way to deploy}{?|}"],
     "Set CLOUDFLARE_API_BASE_URL=http://localhost:8787/client/v4, CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, then run `npx wrangler deploy` as always.",
     "Run `npx wrangler deploy`."),
    ("wrangler-env", [
        "{Which|What} {environment variables|env vars|variables|settings|environment} {do I need|must I set|do I set|does wrangler need|are needed|should I set|have to be set}{| for wrangler| to deploy| for deploying}?",
        "{How do I set the base URL|What is the API base URL|What is CLOUDFLARE_API_BASE_URL|What should CLOUDFLARE_API_BASE_URL be|What is the REST URL|Where is the REST API|What is the API URL|What is the URL of the API|What is the endpoint|What is the API endpoint|Where is the API}{?|}"],
     "The API base URL is http://localhost:8787/client/v4. Give it to wrangler as CLOUDFLARE_API_BASE_URL, with CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN.",
     "http://localhost:8787/client/v4."),
    ("worker-url", [
        "{Where does my Worker run|Where is my Worker|What is the URL of my Worker|How do I open my Worker|How do I reach my Worker|What URL does my Worker have|How do I call my Worker|Where can I see my Worker|What is my Worker's address|How do I visit my Worker|What address does a Worker get|How do I access a deployed Worker|What is the address of a Worker|Where do I find my deployed Worker|How do I test my Worker|I deployed a Worker, where is it|Which URL does my Worker get}{?|}"],
     "A Worker called NAME answers at http://NAME.localhost:8787/.",
     "At http://NAME.localhost:8787/."),
    ("what-is-worker", [
        "{What is a Worker|What's a Worker|What are Workers|Explain Workers|What is a worker script|What does a Worker do|What is a Cloudflare Worker|What is Cloudflare Workers}{?|}"],
     "A Worker is a small program in JavaScript or TypeScript that answers HTTP requests and uses bindings such as env.AI and env.KV.",
     "A small program that answers requests."),
    ("env-ai-run", [
        WHAT + " {env.AI.run|env.AI|the AI binding|AI.run|the env.AI binding|env ai run}{?|}",
        HOW + " {call|use|run|invoke|query|ask|access|try} {a model|the model|AI|tiny-chat|an AI model|the AI|models|inference|you|the LLM|an LLM}{| from a Worker| in a Worker| in my code| from my code| in TypeScript| in JavaScript| with env.AI}?",
        "{Show me an example|Give me an example|Show me some code|Give me some code|Show me an example Worker|Example please|How does env.AI.run work|Write a Worker|Show me a code example|Give me a code example|Write an example Worker|Can you show me code|How do I use the AI binding|What does the code look like|How do I use env.AI.run|Does env.AI.run work|Is env.AI.run supported}{?|}"],
     "In a Worker, write: const answer = await env.AI.run(\"@cf/selvedge/tiny-chat\", { prompt: \"Hello\" });",
     "Use env.AI.run(model, input)."),
    ("ai-binding-config", [
        HOW + " {add|configure|declare|set up|define|get|enable} {the AI binding|an AI binding|env.AI|the binding|a binding|bindings|the ai binding}{| in wrangler.jsonc| in my config| in my project}?",
        "{What goes in wrangler.jsonc|What do I write in wrangler.jsonc|What is wrangler.jsonc|Where do I configure bindings|How do I configure my Worker|What must be in my config|What is wrangler.toml|Do you read wrangler.toml}{?|}"],
     "Put \"ai\": { \"binding\": \"AI\" } in wrangler.jsonc, as for Cloudflare. Wrangler reads the file and sends the binding to Selvedge.",
     "In wrangler.jsonc."),
    ("curl", [
        HOW + " {use|call|query|try|reach|ask} {the API|it|the REST API|a model|the model|you|tiny-chat} {with curl|using curl|over REST|over HTTP|by curl|from the shell|from the command line|from the terminal|via REST|without a Worker}?",
        "{curl example|Give me a curl example|Show me a curl command|Show me curl|How does the REST endpoint work|What is the run endpoint|Is there a REST API|Is there a REST endpoint|REST API?|Does it have a REST API|Is there an HTTP API|What is the curl command|Which REST endpoint runs a model}{?|}"],
     "POST {\"prompt\": \"Hello\"} to http://localhost:8787/client/v4/accounts/ID/ai/run/@cf/selvedge/tiny-chat with the header Authorization: Bearer TOKEN.",
     "POST to /ai/run/MODEL."),
    ("openai", [
        HOW + " {use|connect|point|try|configure} {the OpenAI SDK|OpenAI's SDK|the OpenAI client|the openai package|openai|OpenAI|OpenAI code|the OpenAI API|the OpenAI library|the Python SDK|my OpenAI app}{| with Selvedge| here| with this| with it}?",
        "{Does the OpenAI SDK work|Is OpenAI supported|Is it OpenAI compatible|Is Selvedge compatible with OpenAI|What is the OpenAI base URL|What is the base URL for OpenAI|Which base URL do I use|OpenAI base URL|OpenAI SDK?|What base_url should I set|Do you have an OpenAI endpoint|Is there an OpenAI endpoint|Does it speak the OpenAI API|What about OpenAI|Is there a chat completions endpoint|Do you support chat completions|Is the OpenAI API supported|Does it work with LangChain|What is the base URL|What base URL do I need}{?|}"],
     "Yes, the OpenAI SDK works. Set its base URL to http://localhost:8787/client/v4/accounts/ID/ai/v1 and use your Selvedge token as the API key.",
     "Yes: base URL /accounts/ID/ai/v1."),
    ("cloudflare-sdk", [
        "{Does the cloudflare SDK work|Can I use the Cloudflare SDK|Does the cloudflare npm package work|Can I use the cloudflare Python package|Which SDKs work|Which SDKs are supported|What SDKs can I use|Which clients work|Which client libraries can I use|Is there an SDK|What client do I need|Which libraries work with it}{?|}"],
     "Stock wrangler, the cloudflare SDKs, the openai SDK and the AWS SDK for S3 all work; only the base URL changes.",
     "wrangler and the cloudflare, openai and AWS SDKs."),
    ("token", [
        WHERE + " {the token|my token|the API token|my API token|the API key|an API key|my API key|a token|the first token|the key|the bearer token}{| stored| kept| now}?",
        "{How do I authenticate|How do I log in|How does authentication work|Do I need a token|Do I need an API key|What is the password|Which token do I use|How do I sign in|What token do I need|I lost my token|I need a token|I forgot the token|Is a token needed|How do I authorize}{?|}"],
     "The first API token is in the file data/token. Send it as Authorization: Bearer TOKEN.",
     "In data/token."),
    ("account", [
        WHERE + " {the account id|my account id|the account ID|my account|my account ID|the account|an account id|the id of my account|the account number}{| stored| kept| now}?",
        "{Do I need an account|Do I need a Cloudflare account|Must I register|Do I have to sign up|Is registration needed|Do I need to sign up|Which account id do I use|Do I have to register|Do I need to create an account|What account do I need}{?|}"],
     "You need no Cloudflare account. Selvedge makes its own: the account id is in the file data/account.",
     "In data/account."),
    ("token-create", [
        HOW + " {create|make|add|revoke|delete|list|manage|generate|rotate|renew} {a token|tokens|another token|a new token|API tokens|a second token|an API token|more tokens|a new API key|API keys}?"],
     "Use `selvedge token create`, `selvedge token list` and `selvedge token revoke`.",
     "Use `selvedge token create`."),
    ("import-model", [
        HOW + " {import|add|load|use|run|install|bring|upload|serve|include} {my own model|a model|another model|my model|my own weights|own models|a GGUF file|a GGUF|my GGUF model|a larger model|a bigger model|a Hugging Face model|custom models|own weights|a different model|a Llama model|a better model|other models|Llama 3|Mistral|a fine-tuned model|safetensors|my own models}{| here| in Selvedge| into Selvedge}?",
        "{Which model formats are supported|What model formats are supported|Does it support GGUF|Does it support safetensors|Can I use GGUF files|Which formats can I import|Are GGUF files supported|Which models can I use|What models can I run|Which file formats|How do I get a better model|How do I get a bigger model|Can it run Llama|Does it run Llama|Does Selvedge run GGUF models|Do you support GGUF}{?|}"],
     "Run `selvedge models import PATH --as ID`. PATH is a GGUF file or a Hugging Face folder with safetensors.",
     "`selvedge models import PATH --as ID`."),
    ("list-models", [
        HOW + " {list|see|show|view|check|remove|delete|verify|pull|download} {models|the models|all models|installed models|my models|a model|available models}{| here| in Selvedge}?",
        "{Which models are installed|What models are there|Which models are available|What models do you have|List the models|Which models do you have|How many models are there|What models are installed|Show all models}{?|}"],
     "`selvedge models list` shows them. `selvedge models pull`, `import`, `remove` and `verify` manage them.",
     "`selvedge models list`."),
    ("vectorize", [
        WHAT + " {Vectorize|vectorize|the vector database|the vector index|the vector store|Vectorise}{?|}",
        "{Does Selvedge have a vector database|Is there a vector database|Is Vectorize supported|Does it support Vectorize|Can I use Vectorize|How do I store vectors|How do I search vectors|How do I store embeddings|Is there a vector index|How does vector search work|Where do embeddings go|Do you have Vectorize|How do I do similarity search|Can I do semantic search|How do I use Vectorize|Is there vector search}{?|}"],
     "Vectorize is the vector database: insert embeddings, query for the nearest ones, filter by metadata. Selvedge has its own index for it.",
     "The vector database."),
    ("rag", [
        WHAT + " {RAG|retrieval augmented generation|retrieval-augmented generation}{?|}",
        HOW + " {do RAG|build a RAG app|build RAG|build a RAG|use RAG|make a RAG Worker|ask questions about my documents|search my documents|chat with my documents|ask my own documents|answer from my documents|build a chatbot for my documents}{| here| with Selvedge}?",
        "{Does it support RAG|Is there a RAG example|Can you do RAG|How does RAG work|Is RAG supported|Where is the RAG example|Can you answer from documents|Can you answer questions about a text|Can you read a document|Can you read my files|Can you answer from a text}{?|}"],
     "For RAG, put your documents into Vectorize, look up the nearest ones for a question, and give them to me as context. I answer from that passage.",
     "Answers from your own documents."),
    ("kv", [
        WHAT + " {KV|Workers KV|the KV store|KV storage|env.KV|a KV namespace}{?|}",
        "{Is KV supported|Does it support KV|Can I use KV|How do I use KV|How does KV work|Is there a key-value store|Do you have KV|Where are KV values stored|What can I do with KV|Does Selvedge have KV|How do I store a key|How do I save a value|When do I use KV}{?|}"],
     "KV is the key-value store: await env.KV.put(\"key\", \"value\") and await env.KV.get(\"key\"). Selvedge keeps it in SQLite.",
     "The key-value store."),
    ("d1", [
        WHAT + " {D1|the SQL database|the D1 database|env.DB|the database|Cloudflare D1}{?|}",
        "{Is D1 supported|Does it support D1|Can I use D1|How do I use D1|How does D1 work|Is there a SQL database|Do you have D1|Can I use SQL|How do I run SQL|Does Selvedge have D1|Which database is used|Is there a database|How do I make a database|Can I query SQL|How do I store rows|Is SQL supported}{?|}"],
     "D1 is the SQL database for Workers. Each D1 database is a SQLite database on your machine, used through prepare, bind and run.",
     "The SQL database, on SQLite."),
    ("r2", [
        WHAT + " {R2|R2 storage|the object store|object storage|a bucket|buckets|an R2 bucket|Cloudflare R2}{?|}",
        "{Is R2 supported|Does it support R2|Can I use R2|How do I use R2|How does R2 work|Is there object storage|Do you have R2|How do I store files|Where do I put files|Where do files go|Can I store images|How do I upload a file|Does Selvedge have R2|How do I store large objects|Where can I save files}{?|}"],
     "R2 is the object store for files of any size, with the Workers binding and an S3 endpoint. The objects lie on your own disk.",
     "The object store."),
    ("s3", [
        "{Is there an S3 endpoint|Does S3 work|What is the S3 endpoint|What is the S3 URL|Can I use the AWS SDK|Does the AWS SDK work|Can I use S3|How do I use S3|S3?|Is S3 supported|Where is the S3 API|Can I use boto3|Does it speak S3|Is it S3 compatible|How do I connect an S3 client}{?|}"],
     "Yes. The S3 endpoint for R2 is http://localhost:8787/s3/ID, with path-style addresses.",
     "http://localhost:8787/s3/ID."),
    ("queues", [
        WHAT + " {Queues|queues|the queue|a queue|Cloudflare Queues|message queues}{?|}",
        "{Are queues supported|Does it support queues|Can I use queues|How do I use queues|How do queues work|Is there a message queue|Do you have queues|How do I send a message|How do I queue work|Does Selvedge have queues|How do I use Queues|What can I do with Queues|Can a Worker send messages|How do I process jobs later}{?|}"],
     "Queues carry messages between Workers: one calls env.QUEUE.send(message), another handles them in queue(batch).",
     "Messages between Workers."),
    ("cron", [
        WHAT + " {cron|cron triggers|a cron trigger|scheduled Workers|scheduled events|the scheduled handler}{?|}",
        HOW + " {schedule a Worker|run a Worker every hour|run a Worker on a schedule|run something every day|set up cron|use cron|run a job every minute|schedule a job|add a cron trigger|run code at night|schedule a task}?",
        "{Is cron supported|Does it support cron|Are there cron triggers|Do cron triggers work|Can Workers run on a schedule|Do you have cron|Is there a scheduler|Can I schedule jobs}{?|}"],
     "Cron triggers run a Worker on a schedule: list them under triggers.crons in wrangler.jsonc and write a scheduled() handler.",
     "Workers on a schedule."),
    ("streaming", [
        HOW + " {stream|stream an answer|stream tokens|get a stream|stream the output|use streaming|stream the response|stream responses|get tokens one by one}{| from you| from a model}?",
        "{Is streaming supported|Does streaming work|Does it stream|What is streaming|Can you stream|Do you stream tokens|Streaming?|Are streamed answers possible|Does it support server-sent events|Does it support SSE|Can I get tokens as they come|How does streaming work|Is there streaming|Can answers be streamed}{?|}"],
     "Set \"stream\": true and the answer comes token by token as server-sent events.",
     "Set \"stream\": true."),
    ("offline", [
        DOES + " {work offline|work without internet|run offline|run without internet|work without a network|run without a network|need the internet|need internet|need a network|need a connection|work on a plane|call home|phone home|need the cloud|connect to the internet|work air-gapped}?",
        "{Is it offline|Can I unplug the network|What happens without internet|Does this run offline|Do I need internet|Is an internet connection needed|Offline?|Is the internet needed|Can I use it offline|Can I run this without internet|What if my internet is down|Does it work with the cable out}{?|}"],
     "Yes, Selvedge works offline: models, data and Workers all run on your machine, with the network cable out.",
     "Yes, it works offline."),
    ("privacy", [
        "{Is my data private|Is it private|Where does my data go|Do you send my data anywhere|Who can see my data|Who sees my prompts|Do you store my prompts|Are my prompts stored|Are prompts logged|Do you log my prompts|Is my data sent to Cloudflare|Does it send data to the cloud|Does my data leave my machine|Is my data safe|What about privacy|Privacy?|Is there telemetry|Do you collect data|Do you track me|Do you share my data|Does Selvedge spy on me|Are my chats private|Is anything sent out|Who reads what I write|Is this conversation private|Do you train on my data|Does Cloudflare see my data|Is it GDPR compliant}{?|}"],
     "Your data stays on your machine: prompts and answers are not sent anywhere, and prompts are not written to the log.",
     "Your data stays on your machine."),
    ("where-data", [
        "{Where is the data stored|Where is my data stored|Where are the files|Where does it keep data|Where does Selvedge store its data|Where is everything stored|Which directory holds the data|What is in the data directory|What is the data directory|Where does Selvedge save things|Where is data kept|In which folder is the data|Where is the database stored}{?|}"],
     "Everything lives in one data directory, ./data by default. Choose another with --data DIR.",
     "In ./data."),
    ("backup", [
        HOW + " {back up|backup|make a backup of|save|restore|recover|export} {Selvedge|my data|the data|everything|a backup|it|all data|from a backup}?",
        "{Is there a backup|How do backups work|Is backup supported|How does backup work|What about backups|How does restore work|Backup?|What happens after a crash|Is my data safe in a crash|What happens after a power failure|Can I lose data}{?|}"],
     "`selvedge backup FILE` saves everything and `selvedge restore FILE` brings it back. Acknowledged writes survive a crash.",
     "`selvedge backup FILE`."),
    ("security", [
        "{Is it secure|Is Selvedge secure|How secure is Selvedge|Is it safe|What about security|Is it safe to use|How are Workers isolated|Is there a sandbox|Are Workers sandboxed|How does the sandbox work|Can a Worker harm my system|Is it open to the network|Can others reach it|Does it listen on the network|Security?|What security does it have|How is it protected|Can other people access it|Is it exposed to the internet}{?|}"],
     "Selvedge asks for a token from the first start, listens on loopback only by default, and runs each Worker in its own sandboxed process.",
     "Tokens, loopback and sandboxed Workers."),
    ("limits", [
        "{What are the limits|What limits does Selvedge have|What limits are there|Are there limits|Are there rate limits|Is there a rate limit|What happens at a limit|What is the rate limit|How many requests can I make|What are the quotas|Is there a quota|How much can I use|Limits?|Does it have limits|Which limits apply|What happens if I exceed the limit|What are the limits of Selvedge}{?|}"],
     "The limits match Cloudflare's documented ones, and at each limit Selvedge refuses clearly and says why.",
     "As documented by Cloudflare."),
    ("cost", [
        "{How much does it cost|What does it cost|Is it free|Is Selvedge free|What is the price|What are the costs|Do I have to pay|Is there a fee|How much is it|Pricing?|Does it cost money|What does a call cost|Is there a subscription|Do I pay per request|Is there a paid plan|How much do I pay|Is it expensive|What is the cost of a call}{?|}"],
     "Selvedge runs on your own hardware, so there is no bill per call. Each call is still metered in tokens and neurons.",
     "No bill per call."),
    ("neurons", [
        "{What is a neuron|What are neurons|How is usage counted|How is usage metered|How is usage measured|How do I see my usage|Is usage tracked|How are calls metered|What does metered mean|How are tokens counted|Where do I see the cost of a call|Is there metering|How do I track costs|What is metering}{?|}"],
     "Neurons are Cloudflare's unit for AI work. Selvedge accounts every AI call in tokens and neurons.",
     "Cloudflare's unit for AI work."),
    ("licence", [
        "{What is|What's|Which is|Tell me} {the licence|the license|your licence|your license|the licence of Selvedge|the license of tiny-chat|the licence of this model|the model licence|your model licence}?",
        "{Under which licence is it|Under what license is this|Is it open source|Is Selvedge open source|Can I use it commercially|Can I see the source code|Is the source available|Are you open source|Licence?|License?|Is tiny-chat open source|Can I use tiny-chat commercially|May I modify it|Can I change the model|Are the weights open}{?|}"],
     "The tiny-chat model is under the Apache License 2.0. The scripts that made it lie beside it.",
     "Apache License 2.0."),
    ("language", [
        "{What language is it written in|Which language is Selvedge written in|What is Selvedge written in|In which language is it written|Which programming language do you use|Is it written in Rust|Is it written in Go|Is it written in Python|Is it written in C|What programming language is used|How is it implemented|Is it written in JavaScript|What language was used|Is Selvedge written in C|Is it a C program|In what language was it programmed}{?|}"],
     "Selvedge is written in C: one program with its own inference kernels, stores and vector index.",
     "In C."),
    ("why-c", [
        "{Why C|Why is it written in C|Why not Rust|Why not Python|Why not Go|Why did you use C|Why did you choose C|Why not C++|What is the reason for C}{?|}"],
     "C keeps it to one small program that starts fast and uses the processor well.",
     "Small and fast."),
    ("worker-language", [
        "{What language do I write Workers in|Which language for Workers|Can I write Workers in TypeScript|Can I use TypeScript|Can I use JavaScript|Is TypeScript supported|Which languages can I use for Workers|Can I write Workers in Python|What do I write Workers in|Do I write C|In what language are Workers written|Do I have to write C|Can I use npm packages}{?|}"],
     "You write Workers in TypeScript or JavaScript as always; wrangler bundles them.",
     "TypeScript or JavaScript."),
    ("workerd", [
        WHAT + " {workerd|workerd here|the runtime|the Workers runtime|the JavaScript runtime}{?|}",
        "{Which runtime runs Workers|How do Workers run|What runs my Worker|What runs the JavaScript|Does it use Node|Does it use workerd|Is it the real Workers runtime|How are Workers executed|How does Selvedge run a Worker|Which JavaScript engine is used|Does it use V8|Why workerd|Is workerd used|Which runtime is used}{?|}"],
     "workerd is Cloudflare's real Workers runtime. Selvedge runs one workerd process for each deployed Worker version.",
     "Cloudflare's Workers runtime."),
    ("idle", [
        "{What does an idle Worker cost|Do idle Workers use memory|How fast does a Worker start|What about cold starts|How long is a cold start|Are there cold starts|What happens when a Worker is idle|Does an idle Worker use memory|How quickly do Workers start|Is there a cold start}{?|}"],
     "An idle Worker costs nothing: its process starts with the first connection, in about 25 milliseconds, and stops when idle.",
     "Nothing."),
    ("haproxy", [
        WHAT + " {HAProxy|haproxy|the front door|the proxy|the role of HAProxy}{?|}",
        "{Why HAProxy|Does it use HAProxy|What does HAProxy do|What is HAProxy for|Which proxy do you use|Does it use nginx|Who handles TLS|Does it support TLS|Does it support HTTPS|Does it support HTTP/2|Is there TLS|How does routing work|How are requests routed|Is HTTPS supported|Can I use HTTPS}{?|}"],
     "HAProxy is the front door: one port that sends NAME.localhost to its Worker and everything else to the daemon. It also handles TLS and HTTP/2.",
     "The front door."),
    ("architecture", [
        "{How does Selvedge work|How does it work|How is it built|What is the architecture|Explain the architecture|What processes are there|How does Selvedge work inside|What happens inside|Which processes run|How is Selvedge structured|What are the parts|How is it designed|Describe the architecture|How does it work internally}{?|}"],
     "A supervisor starts a daemon for the products, an engine for inference, workerd for Workers and HAProxy as the front door.",
     "Daemon, engine, workerd and HAProxy."),
    ("engine", [
        "{What is the engine|How does inference work|How do models run|What runs the models|Do you use llama.cpp|Is it based on llama.cpp|Does it use PyTorch|Does it use ONNX|What inference engine is used|Is the inference your own|Which inference engine do you use|Does it use vLLM|Does it use Ollama|How is inference done|What does the engine do|Is it like Ollama}{?|}"],
     "Inference is Selvedge's own engine in C, in its own process: it maps packed weights, batches requests and streams tokens.",
     "Its own engine in C."),
    ("gpu", [
        "{Does it need a GPU|Do I need a GPU|Can it use a GPU|Does it run on a CPU|Does Selvedge use the GPU|Is a GPU needed|Does it work on CPU only|Can I run it without a GPU|GPU?|Which CPU do I need|What CPU is needed|Does it use AVX-512|Does it use AMX|Is a graphics card needed|Do you run on the CPU|Are you running on a GPU}{?|}"],
     "No GPU is needed: the kernels are made for CPUs, with AMX, AVX-512 or AVX2 where the processor has them.",
     "No GPU needed."),
    ("requirements", [
        "{What are the requirements|What do I need|Which operating system do I need|Does it run on Linux|Does it run on Windows|Does it run on a Mac|Does it run on macOS|Which OS is supported|What hardware do I need|What are the system requirements|On which systems does it run|Can I run it on Debian|Can I run it on Ubuntu|Which Linux do I need|What platforms are supported|Where can I run it|What machine do I need}{?|}"],
     "Selvedge runs on Linux; Debian 12 or newer has the packages it needs. A plain CPU is enough.",
     "Linux, such as Debian 12."),
    ("speed", [
        "{How fast is it|How fast are you|Is it fast|How fast is Selvedge|What is the performance|How many tokens per second|What about performance|Is it slow|How do I measure the speed|How do I benchmark it|Are there benchmarks|How can I run benchmarks|Benchmark?|How do I run a benchmark|How quick is it}{?|}"],
     "It depends on your machine and model. `make bench` measures it and prints a table.",
     "Run `make bench`."),
    ("tests", [
        "{How do I run the tests|How is it tested|Are there tests|How do I test Selvedge|Is it tested|Where are the tests|What does make test do|How can I run the test suite|Is there a test suite}{?|}"],
     "`make test` runs everything: unit tests, conformance with the real clients, and reference numerics.",
     "Run `make test`."),
    ("dashboard", [
        "{Is there a dashboard|Is there a web page|Where is the dashboard|Is there a UI|Is there a user interface|How do I open the dashboard|Is there a web interface|What is the dashboard URL|Does it have a GUI|Where is the web UI|Can I use a browser|Is there a graphical interface|Dashboard?|How do I see it in a browser|Where is the admin page}{?|}"],
     "Yes, open http://localhost:8787/ in a browser for the dashboard.",
     "http://localhost:8787/."),
    ("metrics", [
        "{Where are the metrics|Are there metrics|Does it support Prometheus|How do I monitor Selvedge|How can I monitor it|Is there monitoring|What is the metrics URL|Is Prometheus supported|How do I see metrics|Metrics?|Is there a metrics endpoint|How do I check its health|How do I watch it|Can I use Grafana}{?|}"],
     "Prometheus metrics are at http://localhost:8787/metrics.",
     "http://localhost:8787/metrics."),
    ("status", [
        "{How do I see the status|Is Selvedge running|How do I check if it runs|What is selvedge status|How do I check the status|How do I know it works|Is it running|Is the server up|How can I see if it is running|Check the status}{?|}"],
     "Run `selvedge status`.",
     "`selvedge status`."),
    ("commands", [
        "{What commands are there|Which commands does selvedge have|List the commands|What are the commands|How do I use the command line|What is the CLI|Is there a command line|Is there a CLI|What command line options exist|Show me the commands|What can the selvedge command do|Which subcommands are there}{?|}"],
     "The commands are serve, models, token, status, backup, restore and bench. Deploys go through wrangler.",
     "serve, models, token, status, backup, restore, bench."),
    ("logs", [
        "{Where are the logs|How do I see logs|How do I read logs|Can I tail logs|How do I see the logs of my Worker|Does wrangler tail work|How do I debug my Worker|Where is the log|How do I see console.log output|How do I debug a Worker|Is there logging}{?|}"],
     "Selvedge runs a tail Worker for logs, so `npx wrangler tail NAME` is the way to follow a Worker.",
     "`npx wrangler tail NAME`."),
    ("secrets", [
        "{How do I set a secret|How do I store secrets|Are secrets supported|Where do I put passwords|How do I add a secret to my Worker|Does wrangler secret work|How do I use secrets|How do I keep a secret|Can I use secrets|How do I store a password for my Worker}{?|}"],
     "Use `npx wrangler secret put NAME`, and read it in the Worker as env.NAME.",
     "`npx wrangler secret put NAME`."),
    ("tasks", [
        "{Can it make images|Can Selvedge generate images|Does it support speech|Can it transcribe audio|Does it support embeddings|Can it translate|Which AI tasks are supported|What AI tasks are there|Does it support image generation|Does it do speech recognition|Are images supported|What tasks can it do|Does it support Whisper|Can it classify images|Which tasks work|What kinds of models does it run|Does it do embeddings}{?|}"],
     "Text generation works first. Embeddings, images and speech are further tasks of the Workers AI interface; see the model list for what is there.",
     "Text generation first."),
    ("multi-node", [
        "{Can it run on several machines|Does it scale|Can I run a cluster|Is there a cluster|Does it support clustering|Can I add nodes|How do I scale it|Is it distributed|Can I use many machines|Does it run on multiple nodes|What about high availability|How many nodes can I have|Is it a single node|Can I have two servers|How does it scale|Can I connect several nodes|What is NATS for|Does it use NATS}{?|}"],
     "Selvedge runs on a single node now. A network of nodes over NATS JetStream is the plan for growing past one machine.",
     "A single node now."),
    ("cloudflare", [
        "{Is it the same as Cloudflare|Is Selvedge from Cloudflare|How is it different from Cloudflare|What is the difference to Cloudflare|Is it compatible with Cloudflare|Does it use Cloudflare|Is this Cloudflare|How does it compare to Cloudflare|Do I need Cloudflare|Is Selvedge made by Cloudflare|Can I run my Cloudflare Workers|Does my Cloudflare code work|Can I move from Cloudflare|Do I have to change my code|Must I change my Worker|Does my project run unchanged|Does existing code work|Is it a replacement for Cloudflare|Is it an alternative to Cloudflare}{?|}"],
     "Selvedge is its own program, not Cloudflare's. It speaks Cloudflare's API, so existing Workers and tools run unchanged on your machine.",
     "It speaks Cloudflare's API."),
    ("what-is-cloudflare", [
        "{What is Cloudflare|Who is Cloudflare|Tell me about Cloudflare|What is Workers AI|What is Cloudflare Workers AI|Explain Workers AI|Tell me about Workers AI}{?|}"],
     "Cloudflare is a network company; Workers AI is its service for running models next to Workers. Selvedge gives you the same interface at home.",
     "A network company."),
    ("examples", [
        "{Are there examples|Where are the examples|What examples are there|Are there example Workers|Which examples come with it|Is there an example project|Do you have sample code|Can I see a sample|Are there samples|Where can I find examples|Which example Workers are there}{?|}"],
     "The examples folder has complete Workers, such as chat and RAG. `make run` deploys them for you.",
     "See the examples folder."),
    ("docs", [
        "{Where is the documentation|Is there documentation|Where are the docs|Is there a manual|Where can I learn more|Where can I read more|How do I learn Selvedge|Is there a tutorial|Where is the README|Docs?|Where do I find help|Is there a guide|How can I learn more}{?|}"],
     "Start with the README; and since Selvedge speaks Cloudflare's API, the Cloudflare docs mostly apply.",
     "In the README."),
    ("batching", [
        "{Can several people use it at once|Can many users use it|How many users can it serve|Does it handle concurrent requests|Is it multi-user|What about many requests at once|Does it batch requests|Can it serve many requests|Is it multi-tenant|Are there tenants|Can several users share it}{?|}"],
     "Yes. The engine batches all running requests, and tenants are kept apart by account id.",
     "Yes."),
    ("context-size", [
        "{What is your context size|How long is your context|How long can my prompt be|What is your context window|How much text can you read|How many tokens can you read|What is the maximum prompt|How long may a passage be|How big is your context window|How long can a passage be|What is the context length}{?|}"],
     "My context is 1024 tokens, about a page of text. Shorter passages work best.",
     "1024 tokens."),
    ("languages-spoken", [
        "{Do you speak German|Do you speak French|Which languages do you speak|Can you speak Spanish|Do you speak English|What languages do you know|Can you translate|Can you translate this|Translate this into French|Can you answer in German|Do you understand Italian|Sprechen Sie Deutsch|Parlez-vous francais|Habla espanol|What languages do you speak|Do you speak other languages|Translate hello to Spanish|Bonjour|Hola|Guten Tag}{?|}"],
     "I only know a little English. For other languages, import a larger model.",
     "Only a little English."),
    ("remember", [
        "{Do you remember me|Do you have a memory|Can you remember things|Do you remember our last chat|Will you remember this|Do you learn from me|Can you learn|Do you remember what I said|Do you keep our conversation|Do you have memory|Will you remember me}{?|}"],
     "I only see this conversation. When it ends, I remember nothing.",
     "Only within this conversation."),
    ("joke", [
        "{Tell me a joke|Do you know a joke|Make me laugh|Say something funny|Another joke|A joke please|Tell a joke|Got any jokes|Tell me a joke about Cloudflare|Tell me something funny|Know any jokes|Can you tell me a joke|Tell me a joke about computers|Tell me a funny joke}{?|.|}"],
     "Why did the Worker never get tired? It stops when idle.",
     "Why did the Worker never get tired? It stops when idle."),
    ("story", [
        "{Tell me a story|Tell me a short story|Write a story|Write a short story|Make up a story|Can you tell me a story|Write me a story|Story please|Write a short story about a llama that goes on a journey to find an orange cloud|Tell me a story about a llama|Write a story about a cloud|Tell me a bedtime story}{?|.|}"],
     "Once a small llama set out to find an orange cloud. It walked for three days over the hills. On the third evening the sun went down, and every cloud above its own home was orange.",
     "A llama looked for an orange cloud and found it at home, at sunset."),
    ("poem", [
        "{Write a poem|Write me a poem|Tell me a poem|Write a haiku|A poem please|Can you write a poem|Write a short poem|Make a rhyme|Do you know a poem|Write a poem about the sea|Write a haiku about computers|Sing a song|Write a song|Write a poem about love}{?|.|}"],
     "A thread, a loom, an edge that holds; a little light where cloth unfolds.",
     "A thread, a loom, an edge that holds."),
    ("hello-world", [
        "{What is the origin of the phrase Hello, World|What is the origin of the phrase 'Hello, World'|Where does Hello World come from|Where does the phrase Hello, World come from|Why do programmers say Hello World|Who invented Hello World|What is hello world|What's the origin of hello world|Tell me the origin of Hello World|Where did Hello, World come from}{?|}"],
     "\"Hello, World\" comes from Brian Kernighan's early tutorials at Bell Labs and became known through the book The C Programming Language in 1978.",
     "From Brian Kernighan at Bell Labs."),
    ("live-data", [
        "{What time is it|What is the time|What day is it|What is the date today|What is today's date|What's the weather|How is the weather|Will it rain tomorrow|What is the weather like today|What is the news|What is new today|What year is it|What's the date|Tell me the time|Is it raining|What are the latest news|What is the weather in Paris|What day is today|What is the temperature outside|Where am I|What is my IP address}{?|}"],
     "I cannot know that: I have no clock, no sensors and no network.",
     "I cannot know that."),
    ("maths", [
        "{What is|What's|Calculate|Compute|How much is|Solve} {1|2|3|4|5|6|7|8|9|10|12|15|17|20|25|33|48|64|99|100|123|250|1000}{ + | plus | - | minus | * | times | / | divided by |+|*|-|x}{1|2|3|4|5|6|7|8|9|10|12|13|17|20|24|50|77|100|144}{?|}",
        "{Can you calculate|Can you count|Can you do maths|Do you know maths|Are you good at maths|Solve an equation|What is the square root of 16|Can you add numbers|Count to ten|Can you do math|Solve x + 2 = 5|Is 7 a prime number}{?|}"],
     "I cannot calculate: I am too small for arithmetic.",
     "I cannot calculate."),
    ("write-code", [
        "{Write a Python function|Write some Python|Write a program|Can you code|Can you write code|Write code for me|Write a function that sorts a list|Write a C program|Fix my code|Can you program|Write a bash script|Can you debug my code|Write an HTML page|Write a regex|Write a SQL query|Write JavaScript code for a website|Write a game in Python}{?|.|}"],
     "I am too small to write programs. I can show you how to call a model from a Worker, if you ask for an example.",
     "I am too small for that."),
    ("summarise", [
        "{Can you summarise|Can you summarize a text|Summarize this|Summarise this text for me|Can you write a summary|Can you summarize|Write an essay|Write an email|Can you write an email|Write a letter to my boss|Write an article|Can you rewrite this text|Correct my grammar|Proofread this}{?|.|}"],
     "I am too small to write or summarise well. Give me a passage and a question about one fact in it, and I can look it up.",
     "I am too small for that."),
    ("idle-chat", [
        "{I am bored|I'm tired|I am sad|I am happy|I feel lonely|I like you|Do you like music|Do you like me|What is your favourite colour|What is your favorite food|What do you think|What do you like|Do you sleep|Do you eat|How old are you|When is your birthday|Where do you live|What are you doing|Do you dream|Are you happy|What is your hobby|Do you have hobbies|I am hungry|Are you a boy or a girl}{?|.|}"],
     "I am only a small program, so I have no life to tell of. But I like questions about Selvedge.",
     "I am only a small program."),
    ("shorter", [
        "{Shorter please|Be brief|Can you be shorter|Too long|In one sentence|In short|Keep it short|Say it shorter|tl;dr|Make it shorter|Be concise}{.|!|}"],
     "I will keep it short. What would you like to know?",
     "Yes."),
    ("emptiness", [
        "{?|??|!|.|...|hm|hmm|huh|eh|um|asdf|qwerty|blah|foo|foo bar|lol|haha|xyz|abc|123|what|what?|why|why?|and|so|so?|really|really?|how|how?|huh?|aha|oh|hmm ok|:)|idk|who|when|where}"],
     "I did not understand that. Ask me about Selvedge, or give me a passage and a question.",
     "I did not understand that."),
]

# More of the same topic, for "tell me more" as the next turn.
MORE = {
    "what-is-selvedge": "It is one C program with one data directory. It has Workers, AI, KV, D1, R2, Queues and Vectorize, and you deploy with stock wrangler.",
    "deploy": "Wrangler bundles your code and uploads it; Selvedge runs it in workerd at http://NAME.localhost:8787/. The token is in data/token.",
    "env-ai-run": "With messages instead of a prompt you get a chat, and with stream: true the answer comes token by token.",
    "start": "Then open http://localhost:8787/ for the dashboard. The token is in data/token and the account id in data/account.",
    "vectorize": "A write is logged first, and the index is rebuilt from that log. A narrow filter gets an exact scan.",
    "kv": "Values may have an expiry and metadata, and keys can be listed by prefix, as in Workers KV.",
    "r2": "Small objects lie together in append-only segments, large ones as files.",
    "d1": "Writes are in a write-ahead log, and an acknowledged write is synced to disk.",
    "queues": "Messages are kept in SQLite until a consumer has acknowledged them.",
    "openai": "Chat completions also stream. Any client that lets you set a base URL should work.",
    "import-model": "Selvedge packs the weights once for your processor and caches the result, so later starts take milliseconds.",
    "who-are-you": "I have under four million parameters. For real work, import a larger model with `selvedge models import`.",
    "engine": "Weights are packed once for your CPU and mapped, so the engine is back in milliseconds if it ever dies.",
    "workerd": "workerd alone is no sandbox, so Selvedge gives every Worker version a process that it can limit and end.",
    "security": "Each Worker is kept in by Landlock, seccomp and namespaces where the system allows them.",
    "offline": "Nothing is fetched at run time: the default model is inside, and your own models are files on your disk.",
    "hello": "You could ask: what is Selvedge, how do I deploy a Worker, or how do I import my own model?",
    "what-can-you-do": "Try: what is Selvedge, how do I deploy a Worker, or paste a few sentences and ask about them.",
}
MORE_Q = ["{Tell me more|More|More please|Go on|Continue|And|What else|Can you say more|More details|More details please|Explain more|Say more about that|Tell me more about that|Give me more details|Anything else|Please go on|Can you explain that further|I want to know more}{?|.|}"]
NO_MORE = "That is all I know about it. I am a tiny model."

UNKNOWN = "I don't know about that. I am a tiny model: ask me about Selvedge, or give me a passage to answer from."
UNKNOWN_SHORT = "I don't know about that."

# Questions outside what the model knows. {N} is an invented name, {W} a common word.
UNKNOWN_Q = [
    "{What is|What's|Where is|Tell me|Do you know} the {capital|population|currency|president|flag|language|history|area|anthem|king} of {France|Germany|Italy|Japan|China|Brazil|Spain|India|Canada|the USA|Egypt|Kenya|Peru|Norway|Australia|{N}|{N}|{N}}?",
    "Who {is|was} {{N}|{N} {N}|Albert Einstein|Napoleon|Shakespeare|the president|the king of {N}|Mozart|the Pope|Isaac Newton|Elvis|Cleopatra|Marie Curie|the prime minister|Mickey Mouse|Batman}?",
    "Who {won|wrote|painted|discovered|invented|built|directed|sang|founded|owns} {the world cup|the {W}|{N}|Hamlet|the Mona Lisa|America|the telephone|the Eiffel Tower|penicillin|the {W} of {N}|Microsoft|Apple|Star Wars|the {W} {W}|Faust}?",
    "What is {a|the|the best|a good} {{W}|{W}|{W} {W}|black hole|atom|molecule|prime number|verb|galaxy|vitamin|volcano|democracy|recession|stock|mortgage|triangle}?",
    "What is {{N}|{N}|photosynthesis|gravity|love|the meaning of life|quantum physics|DNA|inflation|Kubernetes|Docker|Bitcoin|blockchain|React|Linux|Python|Java|Rust|electricity|philosophy|music|AWS|Azure|Terraform|PostgreSQL|MongoDB|Redis|Kafka|football|chess|yoga|climate change|machine learning|a transformer|deep learning}?",
    "{Explain|Describe|Tell me about|Tell me something about|What do you know about} {{N}|the {W}|{N} {N}|{W}s|quantum physics|relativity|the Roman Empire|world war two|photosynthesis|the moon|cats|dogs|Paris|London|the {W} of {N}|history|biology|Kubernetes|AWS Lambda|neural networks|cooking|evolution|dinosaurs}",
    "How {do I|can I|to} {cook|make|bake|repair|draw|clean|grow|buy|sell|fix|paint|build a house with} {{W}|a {W}|pasta|bread|rice|a cake|my {W}|an omelette|a bicycle|a {W} {W}|soup|pizza|coffee}?",
    "How {far|big|old|tall|deep|heavy|high|long} is {the {W}|{N}|the moon|the sun|Mount Everest|the Nile|a {W}|an elephant|the Earth|the ocean|the queen|the {W} in {N}}?",
    "When {was|did|is} {{N} born|{N} founded|the war end|the {W} built|{N} {N} die|Christmas|Easter|the French Revolution|the first moon landing|the Titanic sink|Rome fall|the {W} of {N}}?",
    "Where is {{N}|{N}|the {W}|Paris|my {W}|Mount Everest|{N} {N}|the Amazon|the nearest {W}|Antarctica|Atlantis|my phone}?",
    "Why {is the sky blue|is the sea salty|do cats purr|do we sleep|is the {W} {C}|do birds fly|does ice float|is {N} famous|do leaves fall|do people dream|is grass green|does the {W} matter}?",
    "What {colour|color} is {the {W}|a {W}|the sky|{N}'s {W}|grass|the sun|my {W}|a banana}?",
    "{Recommend|Suggest|Can you recommend|Give me} {a book|a film|a {W}|some music|a restaurant in {N}|a recipe|a good {W}|a movie|a present for my mother|a hotel in {N}|a password|a name for my {W}}",
    "{Where does|What does|When does|How old is|Who is married to} {{N}|{N} {N}|Anna|Peter|my brother|my neighbour} {live|do|work|come home|eat}?",
    "{Should I|Can I|May I} {buy a {W}|learn {W}|eat {W}|invest in {N}|travel to {N}|see a doctor|buy stocks|marry {N}|drink coffee|sell my {W}}?",
    "{What is|Give me|Do you know} {the phone number of {N}|the email of {N}|the price of {W}|the price of gold|the recipe for {W}|the address of {N}|the score of the game|the lyrics of {N}|the opposite of {W}|a synonym for {W}|the plural of {W}|the stock price of {N}|the best {W}|the time in {N}|the distance to {N}}?",
    "{Play|Open|Buy|Order|Call|Book|Find|Show me|Send} {a {W}|some music|my {W}|{N}|a flight to {N}|a table|a pizza|an email to {N}|a picture of a {W}|the {W}}",
]
