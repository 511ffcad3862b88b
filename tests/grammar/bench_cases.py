#!/usr/bin/env python3
"""Cases for bench_grammar, one a line: grammars and texts as a model would write them.
    bench_cases.py > cases.jsonl; bench_grammar VOCABULARY cases.jsonl"""
import json

def case(name,schema,objs,kind="schema",indent=(None,2)):
    texts=[]
    for o in objs:
        for i in indent: texts.append(json.dumps(o,ensure_ascii=False,indent=i))
    return {"name":name,"kind":kind,"text":json.dumps(schema),"texts":texts}
lorem="The quick brown fox jumps over the lazy dog. She said \"hello\" and left; naïve café — 中文字符 and 😀 emoji. "
out=[]
out.append(case("person",{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},"email":{"type":"string","format":"email"},"tags":{"type":"array","items":{"type":"string"}}},"required":["name","age"],"additionalProperties":False},
 [{"name":"Ada Lovelace","age":36,"email":"ada@example.org","tags":["math","poetry","a longer tag with words"]},{"name":lorem*3,"age":7}]))
out.append(case("open object",{"type":"object","properties":{"title":{"type":"string"},"year":{"type":"integer"},"rating":{"type":"number"},"note":{"type":"string"}},"required":["title"]},
 [{"title":"A film","year":1999,"rating":7.5,"note":lorem,"further_key":[1,2,{"x":None}],"another one":{"deep":{"deeper":[True,"q"]}}}]))
out.append(case("any json",{},[{"a":[1,2.5e3,"x",{"b":None,"c":lorem}],"k":"v"*40}]))
out.append(case("maxLength",{"type":"object","properties":{"summary":{"type":"string","maxLength":400},"short":{"type":"string","minLength":2,"maxLength":30}},"required":["summary","short"],"additionalProperties":False},
 [{"summary":lorem*3,"short":"twenty-nine characters here.."},{"summary":"tiny","short":"ok"}]))
out.append(case("pattern",{"type":"object","properties":{"sku":{"type":"string","pattern":"^[A-Z]{3}-[0-9]{4,8}$"},"slug":{"type":"string","pattern":"^[a-z0-9]+(?:-[a-z0-9]+)*$"},"free":{"type":"string","pattern":"error"},"line":{"type":"string","pattern":"^.{1,80}$"},"words":{"type":"string","pattern":"^\\w+( \\w+){2,9}$","maxLength":80}},"required":["sku","slug","free","line","words"],"additionalProperties":False},
 [{"sku":"ABC-123456","slug":"a-long-slug-with-many-words-2024","free":"there was an error in the middle of it","line":"A line of some text, up to eighty characters: it goes on.","words":"three words or a few more of them here"}]))
out.append(case("enum+union",{"type":"array","items":{"anyOf":[{"type":"object","properties":{"kind":{"const":"circle"},"radius":{"type":"number","exclusiveMinimum":0}},"required":["kind","radius"],"additionalProperties":False},{"type":"object","properties":{"kind":{"const":"rect"},"w":{"type":"number"},"h":{"type":"number"}},"required":["kind","w","h"],"additionalProperties":False},{"type":"object","properties":{"kind":{"const":"text"},"body":{"type":"string"},"align":{"enum":["left","right","center"]}},"required":["kind","body"],"additionalProperties":False}]}},
 [[{"kind":"circle","radius":1.25},{"kind":"rect","w":3,"h":4.5},{"kind":"text","body":lorem,"align":"center"}]*5]))
node={"type":"object","properties":{"name":{"type":"string"},"children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["name","children"],"additionalProperties":False}
def tree(d): return {"name":"node at "+str(d),"children":[tree(d-1),tree(d-1)] if d else []}
out.append(case("recursive tree",{"$defs":{"node":node},"$ref":"#/$defs/node"},[tree(5)]))
out.append(case("formats",{"type":"object","properties":{"d":{"type":"string","format":"date"},"t":{"type":"string","format":"date-time"},"u":{"type":"string","format":"uuid"},"i":{"type":"string","format":"ipv4"}},"required":["d","t","u","i"],"additionalProperties":False},
 [{"d":"2024-02-29","t":"2026-11-24T00:10:00Z","u":"123e4567-e89b-12d3-a456-426614174000","i":"192.168.0.1"}]*2))
big={"type":"object","properties":{f"field_{i}_{w}":{"type":t} for i,(w,t) in enumerate([("alpha","string"),("beta","integer"),("gamma","boolean"),("delta","number")]*12)}}
out.append(case("48 optional, open",big,[{k:("text" if v["type"]=="string" else 5 if v["type"]=="integer" else True if v["type"]=="boolean" else 2.5) for k,v in big["properties"].items()}]))
muse={"name":"muse call","kind":"muse","tools":[{"name":"files.write","parameters":json.dumps({"type":"object","properties":{"path":{"type":"string"},"content":{"type":"string"},"mode":{"enum":["w","a"]},"options":{"type":"object","properties":{"sync":{"type":"boolean"},"note":{"type":"string"}}}},"required":["path","content"]})}],
 "texts":["<atem:function_calls>\n<atem:invoke name=\"files.write\">\n<atem:parameter name=\"path\">src/main.c</atem:parameter>\n<atem:parameter name=\"content\">#include <stdio.h>\n\nint main(void)\n{\n    printf(\"hello, world\\n\");\n    for (int i = 0; i < 10; i++) puts(\"</b>\");\n    return 0;\n}\n"+lorem*3+"</atem:parameter>\n<atem:parameter name=\"mode\">w</atem:parameter>\n<atem:parameter name=\"options\">{\"sync\": true, \"note\": \"a < b </atem \"}</atem:parameter>\n</atem:invoke>\n</atem:function_calls>"]}
out.append(muse)
out.append({"name":"regex","kind":"regex","text":"(?:[A-Z][a-z]+ ){2,6}is \\d{1,3}(?:\\.\\d+)? (?:km|miles) (?:north|south) of .{1,200}","texts":["The Small Town is 12.5 km north of "+"a larger place with a name that goes on "*3]})
print("\n".join(json.dumps(o) for o in out))
