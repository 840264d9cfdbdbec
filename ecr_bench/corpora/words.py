"""Names of rooms, floors and devices in each language of the ``intents`` corpus.

The sentence templates leave ``{area}``, ``{floor}`` and ``{name}`` to the household. These are ours:
column i of every language is the translation of column i of the English row, which is also the canonical
slot value. Words stand in their dictionary form; no template inflects them.
"""

from __future__ import annotations

AREAS: dict[str, str] = {
    "en": "living room|kitchen|bedroom|bathroom|hallway|office|garage|balcony|garden|nursery|dining room|laundry room",
    "de": "Wohnzimmer|Küche|Schlafzimmer|Badezimmer|Flur|Büro|Garage|Balkon|Garten|Kinderzimmer|Esszimmer|Waschküche",
    "fr": "salon|cuisine|chambre|salle de bain|couloir|bureau|garage|balcon|jardin|chambre d'enfant"
    "|salle à manger|buanderie",
    "zh": "客厅|厨房|卧室|浴室|走廊|书房|车库|阳台|花园|儿童房|餐厅|洗衣房",
    "es": "salón|cocina|dormitorio|baño|pasillo|oficina|garaje|balcón|jardín|cuarto de los niños|comedor|lavandería",
    "it": "soggiorno|cucina|camera da letto|bagno|corridoio|ufficio|garage|balcone|giardino|cameretta"
    "|sala da pranzo|lavanderia",
    "nl": "woonkamer|keuken|slaapkamer|badkamer|gang|kantoor|garage|balkon|tuin|kinderkamer|eetkamer|wasruimte",
    "pt": "sala de estar|cozinha|quarto|banheiro|corredor|escritório|garagem|varanda|jardim|quarto das crianças"
    "|sala de jantar|lavanderia",
    "pl": "salon|kuchnia|sypialnia|łazienka|korytarz|biuro|garaż|balkon|ogród|pokój dziecięcy|jadalnia|pralnia",
    "ru": "гостиная|кухня|спальня|ванная|коридор|кабинет|гараж|балкон|сад|детская|столовая|прачечная",
    "uk": "вітальня|кухня|спальня|ванна кімната|коридор|кабінет|гараж|балкон|сад|дитяча|їдальня|пральня",
    "cs": "obývací pokoj|kuchyň|ložnice|koupelna|chodba|pracovna|garáž|balkon|zahrada|dětský pokoj|jídelna|prádelna",
    "sv": "vardagsrummet|köket|sovrummet|badrummet|hallen|kontoret|garaget|balkongen|trädgården|barnrummet"
    "|matsalen|tvättstugan",
    "tr": "oturma odası|mutfak|yatak odası|banyo|koridor|ofis|garaj|balkon|bahçe|çocuk odası|yemek odası|çamaşır odası",
    "ja": "リビング|キッチン|寝室|浴室|廊下|書斎|ガレージ|ベランダ|庭|子供部屋|ダイニング|洗濯室",
    "ko": "거실|주방|침실|욕실|복도|서재|차고|발코니|정원|아이방|식당|세탁실",
}

FLOORS: dict[str, str] = {
    "en": "ground floor|first floor|basement|attic",
    "de": "Erdgeschoss|Obergeschoss|Keller|Dachboden",
    "fr": "rez-de-chaussée|premier étage|sous-sol|grenier",
    "zh": "一楼|二楼|地下室|阁楼",
    "es": "planta baja|primera planta|sótano|ático",
    "it": "piano terra|primo piano|seminterrato|soffitta",
    "nl": "begane grond|eerste verdieping|kelder|zolder",
    "pt": "térreo|primeiro andar|porão|sótão",
    "pl": "parter|pierwsze piętro|piwnica|strych",
    "ru": "первый этаж|второй этаж|подвал|чердак",
    "uk": "перший поверх|другий поверх|підвал|горище",
    "cs": "přízemí|první patro|sklep|půda",
    "sv": "bottenvåningen|övervåningen|källaren|vinden",
    "tr": "zemin kat|birinci kat|bodrum|tavan arası",
    "ja": "一階|二階|地下室|屋根裏",
    "ko": "일층|이층|지하실|다락방",
}

# Which kind of thing each column of NAMES is: a template that locks things asks only for locks.
DOMAINS: tuple[str, ...] = (
    *("light", "light", "light", "switch", "switch", "fan", "fan", "media_player", "media_player"),
    *("climate", "climate", "cover", "cover", "lock", "lock", "valve", "valve", "vacuum", "lawn_mower"),
    *("scene", "scene", "script", "button", "person", "person", "weather", "weather"),
    *("binary_sensor", "binary_sensor", "occupancy", "occupancy", "sensor"),
)

NAMES: dict[str, str] = {
    "en": "chandelier|desk lamp|Christmas tree|coffee machine|washing machine|ceiling fan|extractor hood"
    "|television|radio|thermostat|air conditioner|awning|skylight|front door|back door|water tap"
    "|sprinkler|robot vacuum|lawn mower|movie night|dinner|morning routine|doorbell|Anna|Thomas|London"
    "|Tokyo|mailbox|safe|parking space|sauna|outdoor thermometer",
    "de": "Kronleuchter|Schreibtischlampe|Weihnachtsbaum|Kaffeemaschine|Waschmaschine|Deckenventilator"
    "|Dunstabzugshaube|Fernseher|Radio|Thermostat|Klimaanlage|Markise|Dachfenster|Haustür|Hintertür"
    "|Wasserhahn|Rasensprenger|Saugroboter|Rasenmäher|Filmabend|Abendessen|Morgenroutine|Türklingel|Anna"
    "|Thomas|London|Tokio|Briefkasten|Tresor|Parkplatz|Sauna|Außenthermometer",
    "fr": "lustre|lampe de bureau|sapin de Noël|machine à café|machine à laver|ventilateur de plafond|hotte"
    "|télévision|radio|thermostat|climatiseur|auvent|lucarne|porte d'entrée|porte arrière|robinet"
    "|arroseur|robot aspirateur|tondeuse|soirée cinéma|dîner|routine du matin|sonnette|Anna|Thomas"
    "|Londres|Tokyo|boîte aux lettres|coffre-fort|place de parking|sauna|thermomètre extérieur",
    "zh": "吊灯|台灯|圣诞树|咖啡机|洗衣机|吊扇|抽油烟机|电视|收音机|温控器|空调|遮阳篷|天窗|前门|后门|水龙头"
    "|洒水器|扫地机器人|割草机|电影之夜|晚餐|早晨例程|门铃|安娜|托马斯|伦敦|东京|信箱|保险箱|停车位"
    "|桑拿房|室外温度计",
    "es": "lámpara de araña|lámpara de escritorio|árbol de Navidad|cafetera|lavadora|ventilador de techo"
    "|campana extractora|televisor|radio|termostato|aire acondicionado|toldo|claraboya|puerta principal"
    "|puerta trasera|grifo|aspersor|robot aspirador|cortacésped|noche de cine|cena|rutina matutina|timbre"
    "|Anna|Thomas|Londres|Tokio|buzón|caja fuerte|plaza de aparcamiento|sauna|termómetro exterior",
    "it": "lampadario|lampada da scrivania|albero di Natale|macchina del caffè|lavatrice|ventilatore a soffitto"
    "|cappa|televisore|radio|termostato|condizionatore|tenda da sole|lucernario|porta d'ingresso"
    "|porta sul retro|rubinetto|irrigatore|robot aspirapolvere|tosaerba|serata cinema|cena"
    "|routine mattutina|campanello|Anna|Thomas|Londra|Tokyo|cassetta postale|cassaforte|posto auto|sauna"
    "|termometro esterno",
    "nl": "kroonluchter|bureaulamp|kerstboom|koffiemachine|wasmachine|plafondventilator|afzuigkap|televisie"
    "|radio|thermostaat|airconditioning|zonnescherm|dakraam|voordeur|achterdeur|waterkraan|sproeier"
    "|robotstofzuiger|grasmaaier|filmavond|avondeten|ochtendroutine|deurbel|Anna|Thomas|Londen|Tokio"
    "|brievenbus|kluis|parkeerplaats|sauna|buitenthermometer",
    "pt": "lustre|luminária de mesa|árvore de Natal|cafeteira|máquina de lavar|ventilador de teto|exaustor"
    "|televisão|rádio|termostato|ar-condicionado|toldo|claraboia|porta da frente|porta dos fundos"
    "|torneira|aspersor|robô aspirador|cortador de grama|noite de cinema|jantar|rotina matinal|campainha"
    "|Anna|Thomas|Londres|Tóquio|caixa de correio|cofre|vaga de estacionamento|sauna|termômetro externo",
    "pl": "żyrandol|lampka biurkowa|choinka|ekspres do kawy|pralka|wentylator sufitowy|okap|telewizor|radio"
    "|termostat|klimatyzator|markiza|okno dachowe|drzwi wejściowe|tylne drzwi|kran|zraszacz"
    "|robot sprzątający|kosiarka|wieczór filmowy|kolacja|poranna rutyna|dzwonek|Anna|Thomas|Londyn|Tokio"
    "|skrzynka pocztowa|sejf|miejsce parkingowe|sauna|termometr zewnętrzny",
    "ru": "люстра|настольная лампа|ёлка|кофемашина|стиральная машина|потолочный вентилятор|вытяжка|телевизор"
    "|радио|термостат|кондиционер|маркиза|мансардное окно|входная дверь|задняя дверь|водопроводный кран"
    "|разбрызгиватель|робот-пылесос|газонокосилка|киновечер|ужин|утренний сценарий|дверной звонок|Анна"
    "|Томас|Лондон|Токио|почтовый ящик|сейф|парковочное место|сауна|уличный термометр",
    "uk": "люстра|настільна лампа|ялинка|кавоварка|пральна машина|стельовий вентилятор|витяжка|телевізор|радіо"
    "|термостат|кондиціонер|маркіза|мансардне вікно|вхідні двері|задні двері|водопровідний кран"
    "|розбризкувач|робот-пилосос|газонокосарка|кіновечір|вечеря|ранковий сценарій|дверний дзвінок|Анна"
    "|Томас|Лондон|Токіо|поштова скринька|сейф|паркомісце|сауна|вуличний термометр",
    "cs": "lustr|stolní lampa|vánoční stromek|kávovar|pračka|stropní ventilátor|digestoř|televize|rádio"
    "|termostat|klimatizace|markýza|střešní okno|vchodové dveře|zadní dveře|vodovodní kohoutek|zavlažovač"
    "|robotický vysavač|sekačka|filmový večer|večeře|ranní rutina|zvonek|Anna|Thomas|Londýn|Tokio"
    "|poštovní schránka|trezor|parkovací místo|sauna|venkovní teploměr",
    "sv": "ljuskronan|skrivbordslampan|julgranen|kaffebryggaren|tvättmaskinen|takfläkten|köksfläkten|teven"
    "|radion|termostaten|luftkonditioneringen|markisen|takfönstret|ytterdörren|bakdörren|vattenkranen"
    "|vattenspridaren|robotdammsugaren|gräsklipparen|filmkväll|middag|morgonrutinen|dörrklockan|Anna"
    "|Thomas|London|Tokyo|brevlådan|kassaskåpet|parkeringsplatsen|bastun|utomhustermometern",
    "tr": "avize|masa lambası|yılbaşı ağacı|kahve makinesi|çamaşır makinesi|tavan vantilatörü|davlumbaz"
    "|televizyon|radyo|termostat|klima|tente|çatı penceresi|ön kapı|arka kapı|musluk|fıskiye"
    "|robot süpürge|çim biçme makinesi|film gecesi|akşam yemeği|sabah rutini|kapı zili|Anna|Thomas|Londra"
    "|Tokyo|posta kutusu|kasa|park yeri|sauna|dış termometre",
    "ja": "シャンデリア|デスクランプ|クリスマスツリー|コーヒーメーカー|洗濯機|シーリングファン|換気扇|テレビ"
    "|ラジオ|サーモスタット|エアコン|オーニング|天窓|玄関ドア|裏口|蛇口|スプリンクラー|ロボット掃除機"
    "|芝刈り機|映画の夜|夕食|朝のルーティン|ドアベル|アンナ|トーマス|ロンドン|東京|郵便受け|金庫|駐車場"
    "|サウナ|屋外温度計",
    "ko": "샹들리에|책상 램프|크리스마스 트리|커피 머신|세탁기|천장 선풍기|환풍기|텔레비전|라디오|온도 조절기"
    "|에어컨|차양|천창|현관문|뒷문|수도꼭지|스프링클러|로봇 청소기|잔디깎이|영화의 밤|저녁 식사|아침 루틴"
    "|초인종|안나|토마스|런던|도쿄|우편함|금고|주차 공간|사우나|실외 온도계",
}


def pairs(table: dict[str, str], lang: str) -> list[tuple[str, str]]:
    """(word in ``lang``, canonical English word) for each column of ``table``."""
    return list(zip(table[lang].split("|"), table["en"].split("|"), strict=True))


def names_of(lang: str, domains: frozenset[str]) -> list[tuple[str, str]]:
    """The device names of ``lang`` whose domain is in ``domains``, as (word, canonical)."""
    return [pair for pair, domain in zip(pairs(NAMES, lang), DOMAINS, strict=True) if domain in domains]
