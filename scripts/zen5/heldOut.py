import json,random,re
rng=random.Random(20261129)
L=[json.loads(l) for l in open('/work/shared/data/prompts/train_prompts.jsonl')]
arts=[a.strip() for a in open('/tmp/d24w/gensim/test/test_data/lee_background.cor',encoding='latin-1') if len(a.split())>80]
rng.shuffle(arts); rng.shuffle(L)
it=iter(arts)
def pick(src,cond,n,used):
    out=[]
    for x in L:
        p=x['prompt']
        if x['source'] in src and p not in used and 30<len(p)<700 and cond(p):
            used.add(p); out.append(p)
            if len(out)==n: return out
    raise SystemExit((src,len(out)))
used=set()
R=lambda s: (lambda p: re.search(s,p,re.I) is not None)
wr=R(r'\b(write|compose|create) (a|an|me a|the) (\w+ ){0,3}(story|poem|letter|essay|email|article|paragraph|blog|speech|diary|haiku|song|scene|review|advert)')
rs=lambda p: R(r'\b(why|explain|compare|reason|analy[sz]e|argue|difference|classify|which of)\b')(p) and not wr(p) and not R('code|function|program|python|javascript|java\b|sql')(p)
def names(a):
    return a
qa=["What causes the seasons on Earth?","How does a refrigerator keep food cold?","Who was Marie Curie and what did she discover?","What is the difference between a virus and a bacterium?","How do I keep a sourdough starter alive?","Why do leaves change colour in autumn?",
"What does inflation mean for savings?","How do vaccines work?","What should I pack for a week of hiking in the mountains?"]
kinds=['writing','roleplay','reasoning','math','coding','qa','translation','summary','extraction','rag']
langs=['French','German','Spanish']
rq=["what happened to the people who are mentioned first?","which places are named, and what happened there?","who said what about the events?","what numbers are given, and what do they count?","what will happen next, as far as the passages say?","which organisations take part, and what do they do?"]
def make(n,k0):
    d={k:[] for k in kinds}
    d['writing']=pick(['GPTeacher-roleplay','self-instruct-seeds'],wr,n,used)
    d['roleplay']=pick(['GPTeacher-roleplay'],lambda p: R(r'^(you are|imagine|pretend|act as|as an? )')(p) and not wr(p),n,used)
    d['reasoning']=pick(['GPTeacher-roleplay','self-instruct-seeds'],rs,n,used)
    d['math']=pick(['grade-school-math'],lambda p:True,n,used)
    d['coding']=pick(['GPTeacher-codegen'],lambda p:True,n,used)
    d['qa']=[qa[(k0+i)%9] for i in range(n)]
    for i in range(n):
        a=next(it); s=' '.join(re.split(r'(?<=[.!?])\s+',a)[:4])
        d['translation'].append(f'Translate the following text into {langs[i%3]}:\n\n{s}')
        d['summary'].append(f'Summarize the following news article in three or four sentences.\n\n{next(it)}')
        a=next(it)
        d['extraction'].append(['List all people, places and organisations named in this text, each with what the text says of it.','Extract every sentence of this text that contains a number.','Make a JSON object of this article with the fields "headline", "who", "where", "when" and "what".'][i%3]+f'\n\n{a}')
        ps=[];w=0
        while w<540:
            p=' '.join(next(it).split()[:200]); ps.append(p); w+=len(p.split())
        body='\n\n'.join(f'Passage {j+1}: {p}' for j,p in enumerate(ps))
        d['rag'].append(f'Answer the question with the help of these passages only, and quote them.\n\n{body}\n\nQuestion: {rq[(k0+i)%6]}')
    return d
def dump(d,f,n):
    q=0
    with open(f,'w') as o:
        for i in range(n):
            for k in kinds:
                q+=1; o.write(json.dumps({'question_id':q,'category':k,'turns':[d[k][i]]})+'\n')
dump(make(6,0),'/tmp/d24/test.jsonl',6)
dump(make(3,6),'/tmp/d24/dev.jsonl',3)
try:
    dump(make(3,3),'/tmp/d24/dev2.jsonl',3)
except StopIteration: print('no dev2')
